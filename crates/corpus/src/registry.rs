//! Pipeline files in TOML, and the table of the passes' names.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Table};

use crate::audit::{Audit, ClassBalance, ClassWords};
use crate::error::{Error, Result};
use crate::pass::{
    AsksAgain, Conflicts, Contamination, ContaminationSettings, ControlText, Controls, Duplicates, Labels, Language,
    Length, Lexicon, Markup, Mojibake, NearDuplicates, NearOthers, Normalise, OffTarget, Pass, Pii, Refusals,
    Repetition, RunsOn, SetPass, Structure, Trim, Truncated, Verdict,
};
use crate::pipeline::Pipeline;
use crate::read::{Delimiter, Encoding, ReadConfig};

/// The passes that a pipeline file may use, each with a constructor and a short description.
///
/// A pipeline file is a list of passes that run from top to bottom:
///
/// ```toml
/// [[pass]]
/// name = "mojibake"
///
/// [[pass]]
/// name = "conflict"
/// max_words = 2
/// verdict = "flag"
/// ```
///
/// Two tables say how the files are read, where they do not show it themselves:
///
/// ```toml
/// [read]
/// encoding = "windows-1252"
/// delimiter = ";"
///
/// [map]
/// prompt = "ticket"
/// completion = "{label}\n{reply}"
/// ```
///
/// `verdict` is a setting of every pass that judges records: with `"reject"` or `"flag"`, it applies to all findings of
/// the pass. Without it, a pass rejects definite faults, and flags what may be intended.
///
/// [`Registry::default`] has the passes of this crate. [`with`](Self::with) adds other passes.
pub struct Registry {
    entries: Vec<Entry>,
}

/// A pass of any kind, as returned by a constructor.
#[derive(Debug)]
pub enum Stage {
    /// Examines one record.
    Record(Box<dyn Pass>),
    /// Compares records.
    Set(Box<dyn SetPass>),
    /// Collects statistics of the kept records, and rejects nothing.
    Audit(Box<dyn Audit>),
}

/// The settings of one pass in a pipeline file, besides its name.
#[derive(Debug)]
pub struct Settings<'a> {
    table: Table,
    path: &'a Path,
    line: usize,
    pass: String,
}

type Build = Box<dyn Fn(Settings<'_>) -> Result<Stage> + Send + Sync>;

struct Entry {
    name: String,
    what: String,
    build: Build,
}

impl Default for Registry {
    /// Every pass of this crate that can be described in a file.
    fn default() -> Self {
        Self { entries: Vec::new() }
            .with(
                "mojibake",
                "repairs text that was read in a wrong encoding; rejects lost characters",
                plain(Mojibake),
            )
            .with("normalise", "one Unicode form, one line ending, no character of no width", plain(Normalise))
            .with("controls", "removes control characters and terminal sequences", plain(Controls))
            .with("markup", "writes the debris of HTML and Markdown as plain text, or rejects it", record::<Markup>)
            .with("pii", "masks or rejects personal data and secrets", record::<Pii>)
            .with("trim", "removes white space at both ends of a message, but not the first indent", plain(Trim))
            .with("structure", "puts turns in order; rejects other orders, and empty messages", record::<Structure>)
            .with("control-text", "rejects words of a chat template inside a message", plain(ControlText))
            .with("runs-on", "rejects answers that go on to ask and answer by themselves", plain(RunsOn))
            .with("truncated", "rejects answers that break off", plain(Truncated))
            .with("refusals", "rejects refusals, and answers that speak as a language model", record::<Refusals>)
            .with("repetition", "rejects answers that say the same over and over", record::<Repetition>)
            .with("labels", "rejects labels that are not among the allowed ones", record::<Labels>)
            .with("language", "rejects texts in a language that was not asked for", record::<Language>)
            .with("length", "rejects prompts, answers and records that are too short or too long", record::<Length>)
            .with("contamination", "rejects records that hold a text of the evaluation files", contamination)
            .with("off-target", "rejects descriptions with a word of another class", off_target)
            .with("asks-again", "rejects answers that go on to ask what others were asked", plain_set(AsksAgain))
            .with("duplicate", "keeps the first of the conversations that say the same", plain_set(Duplicates))
            .with("near-duplicate", "keeps the first of the records that say nearly the same", near_duplicates)
            .with("conflict", "rejects all sides where one question has several short answers", set::<Conflicts>)
            .with("class-balance", "counts the records of each class", audit::<ClassBalance>)
            .with("class-words", "finds the words that give a class away", audit::<ClassWords>)
    }
}

impl Registry {
    /// Adds a pass. It replaces a pass with the same name.
    #[must_use]
    pub fn with(
        mut self,
        name: &str,
        what: &str,
        build: impl Fn(Settings<'_>) -> Result<Stage> + Send + Sync + 'static,
    ) -> Self {
        let entry = Entry { name: name.to_owned(), what: what.to_owned(), build: Box::new(build) };
        match self.entries.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// The names and descriptions of the passes, in a recommended order.
    pub fn passes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.what.as_str()))
    }

    /// Reads a pipeline file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`Error::Open`], and as [`parse`](Self::parse).
    pub fn load(&self, path: &Path) -> Result<Pipeline> {
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::Open { path: path.into(), source })?;
        self.parse(&text, path)
    }

    /// Parses the text of a pipeline file. `path` is used for errors, and to find the files that the text names.
    ///
    /// # Errors
    /// [`Error::PipelineFile`] for text that is not a list of passes, [`Error::UnknownPass`], [`Error::PassSettings`]
    /// (also of `[read]` and `[map]`),
    /// [`Error::PassOrder`], [`Error::NoVerdict`], and the errors of the constructors, such as those of
    /// [`Lexicon::load`].
    pub fn parse(&self, text: &str, path: &Path) -> Result<Pipeline> {
        let List { pass: passes, read, map } = toml::from_str(text)
            .map_err(|source| Error::PipelineFile { path: path.into(), source: Box::new(source) })?;
        let line_of = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let mut pipeline = Pipeline::new().reading_as(reading(read, map, path, line_of)?);
        let mut last_set: Option<String> = None;
        for item in passes {
            let line = line_of(item.span().start);
            let Item { name, verdict, settings } = item.into_inner();
            let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
                let known = self.passes().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
                return Err(Error::UnknownPass { path: path.into(), line, name, known });
            };
            let stage = (entry.build)(Settings { table: settings, path, line, pass: name.clone() })?;
            let judges = match &stage {
                Stage::Record(pass) => pass.judges(),
                Stage::Set(_) => true,
                Stage::Audit(_) => false,
            };
            if verdict.is_some() && !judges {
                return Err(Error::NoVerdict { path: path.into(), line, pass: name });
            }
            match (&stage, last_set.take()) {
                // Passes over single records always run first. A file with another order would not do what it says.
                (Stage::Record(_), Some(after)) => {
                    return Err(Error::PassOrder { path: path.into(), line, pass: name, after });
                }
                (Stage::Set(_), _) => last_set = Some(name),
                (_, before) => last_set = before,
            }
            pipeline.push(stage, verdict);
        }
        Ok(pipeline)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.passes()).finish()
    }
}

impl Settings<'_> {
    /// Deserialises the settings. With `#[serde(default, deny_unknown_fields)]` on the type, every setting is optional,
    /// and an unknown one is an error that lists the known ones.
    ///
    /// # Errors
    /// [`Error::PassSettings`].
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let failed = |source| Error::PassSettings {
            path: self.path.into(),
            line: self.line,
            pass: self.pass.clone(),
            source: Box::new(source),
        };
        self.table.clone().try_into().map_err(failed)
    }

    /// The path of a file in the settings; it is relative to the pipeline file.
    pub fn beside(&self, file: &Path) -> PathBuf {
        foehn_files::folder_of(self.path).join(file)
    }
}

/// The constructor of a pass over single records whose settings are deserialised by serde.
fn record<P: Pass + DeserializeOwned + 'static>(settings: Settings<'_>) -> Result<Stage> {
    Ok(Stage::Record(Box::new(settings.parse::<P>()?)))
}

/// The constructor of a pass over the set whose settings are deserialised by serde.
fn set<P: SetPass + DeserializeOwned + 'static>(settings: Settings<'_>) -> Result<Stage> {
    Ok(Stage::Set(Box::new(settings.parse::<P>()?)))
}

/// The constructor of an audit whose settings are deserialised by serde.
fn audit<A: Audit + DeserializeOwned + 'static>(settings: Settings<'_>) -> Result<Stage> {
    Ok(Stage::Audit(Box::new(settings.parse::<A>()?)))
}

/// The constructor of a pass over single records without settings.
fn plain<P: Pass + Clone + 'static>(pass: P) -> impl Fn(Settings<'_>) -> Result<Stage> {
    move |settings| {
        let Nothing {} = settings.parse()?;
        Ok(Stage::Record(Box::new(pass.clone())))
    }
}

/// The constructor of a pass over the set without settings.
fn plain_set<P: SetPass + Clone + 'static>(pass: P) -> impl Fn(Settings<'_>) -> Result<Stage> {
    move |settings| {
        let Nothing {} = settings.parse()?;
        Ok(Stage::Set(Box::new(pass.clone())))
    }
}

fn off_target(settings: Settings<'_>) -> Result<Stage> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Words {
        lexicon: PathBuf,
        tasks: Option<Vec<String>>,
        class: Option<String>,
    }
    let Words { lexicon, tasks, class } = settings.parse()?;
    let mut pass = OffTarget { class, ..OffTarget::new(Lexicon::load(&settings.beside(&lexicon))?) };
    if let Some(tasks) = tasks {
        pass.tasks = tasks;
    }
    Ok(Stage::Record(Box::new(pass)))
}

fn contamination(settings: Settings<'_>) -> Result<Stage> {
    let mut parsed: ContaminationSettings = settings.parse()?;
    parsed.files = parsed.files.iter().map(|file| settings.beside(file)).collect();
    Ok(Stage::Record(Box::new(Contamination::new(&parsed)?)))
}

/// `against` is a list of files. Without it the pass only compares the records of the set with each other.
fn near_duplicates(mut settings: Settings<'_>) -> Result<Stage> {
    #[derive(Deserialize)]
    struct Against {
        against: Vec<PathBuf>,
    }
    let Some(files) = settings.table.remove("against") else { return set::<NearDuplicates>(settings) };
    let table = Table::from_iter([("against".to_owned(), files)]);
    let Against { against } = Settings { table, pass: settings.pass.clone(), ..settings }.parse()?;
    let files: Vec<PathBuf> = against.iter().map(|file| settings.beside(file)).collect();
    Ok(Stage::Set(Box::new(NearOthers::new(settings.parse()?, &files)?)))
}

/// How the files are read, by the tables `[read]` and `[map]`.
fn reading(
    read: Option<Spanned<Table>>,
    map: Option<Spanned<Table>>,
    path: &Path,
    line_of: impl Fn(usize) -> usize,
) -> Result<ReadConfig> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Read {
        encoding: Option<Encoding>,
        delimiter: Option<Delimiter>,
    }
    let settings = |name: &str, table: Option<Spanned<Table>>| {
        let line = table.as_ref().map_or(1, |table| line_of(table.span().start));
        let table = table.map(Spanned::into_inner).unwrap_or_default();
        Settings { table, path, line, pass: name.to_owned() }
    };
    let Read { encoding, delimiter } = settings("read", read).parse()?;
    Ok(ReadConfig { encoding, delimiter, map: settings("map", map).parse()? })
}

/// No settings: any setting is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    pass: Vec<Spanned<Item>>,
    read: Option<Spanned<Table>>,
    map: Option<Spanned<Table>>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    verdict: Option<Verdict>,
    #[serde(flatten)]
    settings: Table,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fails(text: &str, expected: &str) {
        let error = Registry::default().parse(text, Path::new("p.toml")).expect_err("a file of no use");
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            said = format!("{said}: {source}");
            cause = source.source();
        }
        assert!(said.contains(expected), "{said}");
    }

    fn names(pipeline: &Pipeline) -> Vec<&str> {
        let passes = pipeline.passes().iter().map(|pass| pass.name());
        passes.chain(pipeline.set_passes().iter().map(|pass| pass.name())).collect()
    }

    #[test]
    fn the_list_runs_in_its_order_with_its_settings() {
        let text = "[[pass]]\nname = 'trim'\n[[pass]]\nname = 'structure'\nplain_text = true\n[[pass]]\nname = 'mojibake'\n\
                    [[pass]]\nname = 'conflict'\nmax_words = 2\n[[pass]]\nname = 'duplicate'\n";
        let pipeline = Registry::default().parse(text, Path::new("p.toml")).expect("a sound list");
        assert_eq!(names(&pipeline), ["trim", "structure", "mojibake", "conflict", "duplicate"]);
        let said = format!("{pipeline:?}");
        assert!(said.contains("plain_text: true") && said.contains("max_words: 2"), "{said}");
        assert!(names(&Registry::default().parse("", Path::new("p.toml")).expect("no pass")).is_empty());
    }

    #[test]
    fn every_name_is_that_of_the_pass_it_makes() {
        for (name, what) in Registry::default().passes() {
            let text = format!("[[pass]]\nname = '{name}'\n");
            match Registry::default().parse(&text, Path::new("p.toml")) {
                Ok(pipeline) if pipeline.audits().is_empty() => assert_eq!(names(&pipeline), [name]),
                Ok(pipeline) => assert_eq!(pipeline.audits().len(), 1, "{name}"),
                // A pass may require a file; then the error says so.
                Err(Error::PassSettings { pass, source, .. }) => {
                    assert_eq!(pass, name);
                    assert!(source.to_string().contains("missing field"), "{source}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
            assert!(what.len() > 10 && !what.ends_with('.'), "{name}: {what}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_there_is() {
        fails("[[pass]]\nname = 'trim'\n\n[[pass]]\nname = 'mojibak'\n", "p.toml, line 4: no pass is called `mojibak`");
        fails("[[pass]]\nname = 'mojibak'\n", "normalise, controls, markup, pii, trim");
        fails("[[pass]]\nname = 'structure'\nplain = true\n", "line 1: the settings of `structure`");
        fails(
            "[[pass]]\nname = 'structure'\nplain = true\n",
            "unknown field `plain`, expected one of `plain_text`, `same_speaker`",
        );
        fails("[[pass]]\nname = 'trim'\nx = 1\n", "unknown field `x`, there are no fields");
        fails("[[pass]]\nname = 'conflict'\nmax_words = 'two'\n", "invalid type: string \"two\"");
        fails("[[pass]]\nname = 'off-target'\n", "missing field `lexicon`");
        fails("[[pass]]\nname = 'off-target'\nlexicon = 'none.json'\n", "none.json");
        fails("[[pass]]\nx = 1\n", "missing field `name`");
        fails("[[passes]]\nname = 'trim'\n", "unknown field `passes`, expected one of `pass`, `read`, `map`");
        fails("[[pass]\n", "p.toml");
        fails("[read]\nencoding = 'utf-7'\n", "the settings of `read` cannot be used: no encoding is called `utf-7`");
        fails("[read]\ndelimiter = 'ab'\n", "columns cannot be divided by `ab`");
        fails("[read]\nx = 1\n", "unknown field `x`, expected `encoding` or `delimiter`");
        fails("[[pass]]\nname = 'trim'\n[map]\nprompt = '{a'\n", "line 3: the settings of `map` cannot be used");
        fails("[map]\nprompt = 1\n", "invalid type: integer `1`, expected a string");
        fails(
            "[[pass]]\nname = 'duplicate'\n[[pass]]\nname = 'trim'\n",
            "line 3: `trim` checks single records, but stands after `duplicate`",
        );
    }

    #[test]
    fn a_file_says_how_to_read_too() {
        let text = "[read]\nencoding = 'cp1252'\ndelimiter = '\\t'\n[map]\nid = 'nr'\nprompt = \"{a}\\n{b}\"\n";
        let pipeline = Registry::default().parse(text, Path::new("p.toml")).expect("a sound file");
        let expected = ReadConfig {
            encoding: Some("windows-1252".parse().expect("known")),
            delimiter: Some("tab".parse().expect("known")),
            map: r"id=nr,prompt={a}\n{b}".parse().expect("a sound map"),
        };
        assert_eq!(pipeline.reading(), &expected);
        assert_ne!(pipeline.hash(), Registry::default().parse("", Path::new("p.toml")).expect("no pass").hash());
    }

    #[test]
    fn a_caller_adds_a_pass_of_their_own() {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Shout {
            loud: bool,
        }
        impl Pass for Shout {
            fn name(&self) -> &'static str {
                "shout"
            }
        }
        let registry = Registry::default()
            .with("shout", "rejects shouting", |settings| Ok(Stage::Record(Box::new(settings.parse::<Shout>()?))));
        let pipeline = registry.parse("[[pass]]\nname = 'shout'\nloud = true\n", Path::new("p.toml")).expect("known");
        assert!(format!("{pipeline:?}").contains("loud: true"));
    }
}
