//! Passes in order.

use std::path::Path;

use crate::audit::Audit;
use crate::error::Result;
use crate::pass::{
    AsksAgain, Conflicts, ControlText, Controls, Duplicates, Mojibake, Normalise, Pass, RunsOn, SetPass, Structure,
    Trim, Truncated,
};
use foehn_record::Record;
use crate::registry::{Registry, Stage};

/// The passes that a set goes through: those that look at one record, then those that compare records; and the audits of
/// what is kept.
#[derive(Debug)]
pub struct Pipeline {
    passes: Vec<Box<dyn Pass>>,
    set_passes: Vec<Box<dyn SetPass>>,
    audits: Vec<Box<dyn Audit>>,
}

/// How often the repairs are repeated until none changes anything. Only text that hides mojibake in mojibake needs three.
const MAX_ROUNDS: usize = 16;

impl Default for Pipeline {
    /// Mojibake, normal form, controls, trimming; structure, control text, running on, truncation; asking again,
    /// duplicates, conflicts.
    fn default() -> Self {
        Self::new()
            .with(Mojibake)
            .with(Normalise)
            .with(Controls)
            .with(Trim)
            .with(Structure::default())
            .with(ControlText)
            .with(RunsOn)
            .with(Truncated)
            .with_set(AsksAgain)
            .with_set(Duplicates)
            .with_set(Conflicts::default())
    }
}

impl Pipeline {
    /// A pipeline without passes, which keeps every record that can be read as it is.
    pub fn new() -> Self {
        Self { passes: Vec::new(), set_passes: Vec::new(), audits: Vec::new() }
    }

    /// Reads a pipeline file, a TOML list of this crate's passes; a [`Registry`](crate::Registry) reads one with others too.
    ///
    /// # Errors
    /// As [`Registry::load`](crate::Registry::load).
    pub fn load(path: &Path) -> Result<Self> {
        Registry::default().load(path)
    }

    /// Appends a pass over single records, such as [`OffTarget`](crate::OffTarget) with a lexicon.
    #[must_use]
    pub fn with(mut self, pass: impl Pass + 'static) -> Self {
        self.passes.push(Box::new(pass));
        self
    }

    /// Appends a pass over the set. It sees what the passes before it have left.
    #[must_use]
    pub fn with_set(mut self, pass: impl SetPass + 'static) -> Self {
        self.set_passes.push(Box::new(pass));
        self
    }

    /// Appends an audit of what is kept: it rejects nothing, and its findings are a section of the report.
    #[must_use]
    pub fn with_audit(mut self, audit: impl Audit + 'static) -> Self {
        self.audits.push(Box::new(audit));
        self
    }

    /// Appends a pass of any kind.
    pub(crate) fn push(&mut self, stage: Stage) {
        match stage {
            Stage::Record(pass) => self.passes.push(pass),
            Stage::Set(pass) => self.set_passes.push(pass),
            Stage::Audit(audit) => self.audits.push(audit),
        }
    }

    /// Runs the passes over single records on one: repairs until nothing changes, then checks.
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
                return Outcome { changed, rejected: self.check(record) };
            }
        }
        let pass = changed.iter().position(|changed| *changed).unwrap_or(0);
        Outcome { changed, rejected: Some((pass, "its text is still changing after many repairs".to_owned())) }
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

    fn check(&self, record: &Record) -> Option<(usize, String)> {
        let mut reasons = self.passes.iter().map(|pass| pass.check(record)).enumerate();
        reasons.find_map(|(at, reason)| Some((at, reason?)))
    }
}

/// What [`Pipeline::run`] did to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For each pass, whether it changed the record.
    pub changed: Vec<bool>,
    /// The pass that rejected the record, and why.
    pub rejected: Option<(usize, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::{Message, Role};

    fn record(prompt: &str, answer: &str) -> Record {
        Record {
            id: None,
            messages: vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)],
            metadata: serde_json::Map::new(),
            group: None,
        }
    }

    #[test]
    fn repairs_settle_before_anything_is_checked() {
        // The zero-width space is itself mojibake, and hides more of it.
        let mut record = record("Ã\u{e2}\u{20ac}\u{2039}© ", " Visual</\u{200b}s>");
        let outcome = Pipeline::default().run(&mut record);
        assert_eq!(record.messages[0].content, "é");
        assert_eq!(outcome.changed, [true, true, false, true, false, false, false, false]);
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
