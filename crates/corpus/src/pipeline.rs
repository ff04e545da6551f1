//! Pipelines: passes in order.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use crate::audit::Audit;
use crate::error::{Error, Result};
use crate::pass::{
    AsksAgain, Conflicts, ControlText, Controls, Duplicates, Mojibake, Normalise, Pass, Pii, PiiAction, RunsOn,
    SetPass, Structure, TokenCounter, Trim, Truncated, Verdict,
};
use crate::read::ReadConfig;
use crate::registry::{Registry, Stage};
use crate::text::sha256_hex;
use foehn_record::Record;

/// The passes that a set goes through: first those over single records, then those that compare records. And the audits
/// of the kept records.
#[derive(Debug)]
pub struct Pipeline {
    passes: Vec<Box<dyn Pass>>,
    set_passes: Vec<Box<dyn SetPass>>,
    /// For each pass, the verdict that is set for all its findings; `None` if the pass decides.
    verdicts: Vec<Option<Verdict>>,
    set_verdicts: Vec<Option<Verdict>>,
    audits: Vec<Box<dyn Audit>>,
    reading: ReadConfig,
}

/// The largest number of rounds of repairs; they are repeated until none changes anything. Only mojibake inside
/// mojibake needs three rounds.
const MAX_ROUNDS: usize = 16;

impl Default for Pipeline {
    /// Mojibake, normal form, controls, trimming; structure, control text, running on, truncation, personal data
    /// (flagged only); asking again, duplicates, conflicts.
    fn default() -> Self {
        Self::with_structure(Structure::default())
    }
}

impl Pipeline {
    /// The default pipeline, with other settings of the order of turns.
    pub fn with_structure(structure: Structure) -> Self {
        Self::new()
            .with(Mojibake)
            .with(Normalise)
            .with(Controls)
            .with(Trim)
            .with(structure)
            .with(ControlText)
            .with(RunsOn)
            .with(Truncated)
            .with_as(Pii { action: PiiAction::Drop, ..Pii::default() }, Verdict::Flag)
            .with_set(AsksAgain)
            .with_set(Duplicates)
            .with_set(Conflicts::default())
    }

    /// A pipeline without passes. It keeps every readable record unchanged.
    pub fn new() -> Self {
        Self {
            passes: Vec::new(),
            set_passes: Vec::new(),
            verdicts: Vec::new(),
            set_verdicts: Vec::new(),
            audits: Vec::new(),
            reading: ReadConfig::default(),
        }
    }

    /// Reads a pipeline file, a TOML list of this crate's passes. A [`Registry`](crate::Registry) can read one with
    /// other passes.
    ///
    /// # Errors
    /// As [`Registry::load`](crate::Registry::load).
    pub fn load(path: &Path) -> Result<Self> {
        Registry::default().load(path)
    }

    /// Appends a pass over single records, such as [`OffTarget`](crate::OffTarget) with a lexicon.
    #[must_use]
    pub fn with(mut self, pass: impl Pass + 'static) -> Self {
        self.push(Stage::Record(Box::new(pass)), None);
        self
    }

    /// Appends a pass over single records. All its findings have this verdict.
    #[must_use]
    pub fn with_as(mut self, pass: impl Pass + 'static, verdict: Verdict) -> Self {
        self.push(Stage::Record(Box::new(pass)), Some(verdict));
        self
    }

    /// Appends a pass over the set. It gets the records that the earlier passes keep.
    #[must_use]
    pub fn with_set(mut self, pass: impl SetPass + 'static) -> Self {
        self.push(Stage::Set(Box::new(pass)), None);
        self
    }

    /// Appends a pass over the set. All its findings have this verdict.
    #[must_use]
    pub fn with_set_as(mut self, pass: impl SetPass + 'static, verdict: Verdict) -> Self {
        self.push(Stage::Set(Box::new(pass)), Some(verdict));
        self
    }

    /// Appends an audit of the kept records. It rejects nothing, and its result is a section of the report.
    #[must_use]
    pub fn with_audit(mut self, audit: impl Audit + 'static) -> Self {
        self.audits.push(Box::new(audit));
        self
    }

    /// Sets how the files are read that are cleaned: their encoding, the delimiter of tables, and which columns become
    /// which fields.
    #[must_use]
    pub fn reading_as(mut self, reading: ReadConfig) -> Self {
        self.reading = reading;
        self
    }

    /// How the files are read.
    pub fn reading(&self) -> &ReadConfig {
        &self.reading
    }

    /// Gives a token counter to every pass that limits tokens.
    #[must_use]
    pub fn counting(mut self, counter: impl TokenCounter + 'static) -> Self {
        let counter: Arc<dyn TokenCounter> = Arc::new(counter);
        self.passes.iter_mut().for_each(|pass| pass.count_with(&counter));
        self
    }

    /// Whether a pass limits tokens, so that the pipeline needs a [token counter](Self::counting).
    pub fn needs_counter(&self) -> bool {
        self.passes.iter().any(|pass| pass.lacks_counter())
    }

    /// The hash of the pipeline: `sha256:` and the hash of its passes with all settings, and of this crate's version.
    pub fn hash(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!("sha256:{}", sha256_hex(format!("foehn-corpus {version}\n{self:?}").as_bytes()))
    }

    /// Appends a pass of any kind. A verdict for an audit is ignored.
    pub(crate) fn push(&mut self, stage: Stage, verdict: Option<Verdict>) {
        match stage {
            Stage::Record(pass) => {
                self.passes.push(pass);
                self.verdicts.push(verdict);
            }
            Stage::Set(pass) => {
                self.set_passes.push(pass);
                self.set_verdicts.push(verdict);
            }
            Stage::Audit(audit) => self.audits.push(audit),
        }
    }

    /// Checks that every pass has everything that it needs.
    ///
    /// # Errors
    /// [`Error::NoTokenCounter`].
    pub(crate) fn check_ready(&self) -> Result<()> {
        match self.passes.iter().find(|pass| pass.lacks_counter()) {
            Some(pass) => Err(Error::NoTokenCounter { pass: pass.name().to_owned() }),
            None => Ok(()),
        }
    }

    /// Runs the passes over single records on one record: repairs until nothing changes, then checks.
    pub fn run(&self, record: &mut Record) -> Outcome {
        let mut changed = vec![false; self.passes.len()];
        for _ in 0..MAX_ROUNDS {
            let mut last = None;
            for (at, pass) in self.passes.iter().enumerate() {
                if pass.repair(record) {
                    changed[at] = true;
                    last = Some(at);
                }
            }
            if last.is_none() {
                let (rejected, flags) = self.judge(record);
                return Outcome { changed, rejected, flags };
            }
        }
        let pass = changed.iter().position(|changed| *changed).unwrap_or(0);
        let rejected = Some((pass, "its text is still changing after many repairs".to_owned()));
        Outcome { changed, rejected, flags: Vec::new() }
    }

    /// The passes over single records, in order.
    pub fn passes(&self) -> &[Box<dyn Pass>] {
        &self.passes
    }

    /// The passes over the set, in order.
    pub fn set_passes(&self) -> &[Box<dyn SetPass>] {
        &self.set_passes
    }

    /// The audits, in order.
    pub fn audits(&self) -> &[Box<dyn Audit>] {
        &self.audits
    }

    /// The text with masked personal data, for a report.
    pub(crate) fn redacted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.passes.iter().fold(Cow::Borrowed(text), |text, pass| match pass.redact(&text) {
            Some(masked) => Cow::Owned(masked),
            None => text,
        })
    }

    /// The verdicts that are set for the passes over the set.
    pub(crate) fn set_verdicts(&self) -> &[Option<Verdict>] {
        &self.set_verdicts
    }

    /// The first reason to reject a record, and the reasons before it to flag it.
    fn judge(&self, record: &Record) -> (Option<Found>, Vec<Found>) {
        let mut flags = Vec::new();
        for (at, (pass, set)) in self.passes.iter().zip(&self.verdicts).enumerate() {
            let sure = pass.check(record).map(|reason| (Verdict::Reject, reason));
            let found = sure.or_else(|| Some((Verdict::Flag, pass.doubt(record)?)));
            match found.map(|(own, reason)| (set.unwrap_or(own), reason)) {
                None => {}
                Some((Verdict::Flag, reason)) => flags.push((at, reason)),
                Some((Verdict::Reject, reason)) => return (Some((at, reason)), flags),
            }
        }
        (None, flags)
    }
}

/// The index of a pass, and its reason.
type Found = (usize, String);

/// The result of [`Pipeline::run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For each pass, whether it changed the record.
    pub changed: Vec<bool>,
    /// The pass that rejected the record, and the reason.
    pub rejected: Option<(usize, String)>,
    /// The passes that flag it, with their reasons.
    pub flags: Vec<(usize, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(prompt: &str, answer: &str) -> Record {
        Record::pair(prompt, answer)
    }

    #[test]
    fn repairs_settle_before_anything_is_checked() {
        // The zero-width space is itself mojibake, and hides other mojibake.
        let mut record = record("Ã\u{e2}\u{20ac}\u{2039}© ", " Visual</\u{200b}s>");
        let outcome = Pipeline::default().run(&mut record);
        assert_eq!(record.messages[0].content, "é");
        assert_eq!(outcome.changed, [true, true, false, true, false, false, false, false, false]);
        let (pass, reason) = outcome.rejected.expect("control text");
        assert_eq!((pass, reason.as_str()), (5, "the answer goes on into control text `</s>` (message 2)"));
    }

    #[derive(Debug)]
    struct Growing;

    impl Pass for Growing {
        fn name(&self) -> &'static str {
            "growing"
        }

        fn repair(&self, record: &mut Record) -> bool {
            record.messages[0].content.push('!');
            true
        }
    }

    #[test]
    fn text_that_never_settles_is_rejected() {
        let outcome = Pipeline::new().with(Growing).run(&mut record("q", "a"));
        assert_eq!(outcome.rejected.map(|(pass, _)| pass), Some(0));
    }
}
