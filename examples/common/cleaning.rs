//! The passes of a cleaning, and its stages for several machines.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};
use foehn::corpus::{
    Delimiter, Encoding, JudgeConfig, LeadingAssistant, Length, Lexicon, Limit, MapConfig, NearDuplicates, NearOthers,
    OffTarget, Pipeline, Registry, SameSpeaker, Stage as Pass, Structure, SystemPrompt, TrailingUser, judge_parts,
    map_part, write_part_rejects, write_parts,
};
use foehn::files::check_outputs;
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::terminal::{say, show_json};

/// How files are read, and the passes.
#[derive(Args, Clone, Debug)]
pub struct PipelineArgs {
    /// The encoding of the text files, such as windows-1252, utf-16le or macintosh; found from each file by default
    #[arg(long, value_name = "NAME")]
    encoding: Option<Encoding>,
    /// The character between the columns of tables, such as `;` or `tab`; found from each file by default
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<Delimiter>,
    /// Which columns become which fields: prompt=ticket,completion="{label}\n{reply}"; may be given several times
    #[arg(long, value_name = "FIELD=COLUMN,…")]
    map: Vec<String>,
    /// The passes to run, as a TOML list; examples/recipes/clean.toml by default
    #[arg(long, value_name = "FILE.toml")]
    pipeline: Option<PathBuf>,
    /// The model whose tokenizer counts tokens for the pass `length` of a pipeline file
    #[arg(long, value_name = "MODEL", requires = "pipeline")]
    tokenizer: Option<String>,
    /// Two turns in a row of one speaker: `merge` (the default) or `reject`
    #[arg(long, value_parser = setting::<SameSpeaker>, conflicts_with = "pipeline")]
    same_speaker: Option<SameSpeaker>,
    /// What the user says after the last answer: `drop` (the default) or `reject`
    #[arg(long, value_parser = setting::<TrailingUser>, conflicts_with = "pipeline")]
    trailing_user: Option<TrailingUser>,
    /// What the assistant says before the first user's turn: `drop` (the default), `keep` or `reject`
    #[arg(long, value_parser = setting::<LeadingAssistant>, conflicts_with = "pipeline")]
    leading_assistant: Option<LeadingAssistant>,
    /// The system's message: `keep` (the default), or `fold` it into the first user's turn
    #[arg(long, value_parser = setting::<SystemPrompt>, conflicts_with = "pipeline")]
    system: Option<SystemPrompt>,
    /// A JSON file {class: [words]}: reject descriptions with words of another class than their modality
    #[arg(long)]
    lexicon: Option<PathBuf>,
    /// Reject records that are nearly the same as a record of this file, or as another record; may be given several
    /// times
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
}

impl PipelineArgs {
    /// The files that the arguments name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.pipeline.iter().chain(&self.lexicon).chain(&self.against)
    }

    /// The pipeline that the arguments describe.
    pub fn load(&self) -> Result<Pipeline> {
        let pipeline = match &self.pipeline {
            Some(path) => self.registry()?.load(path)?,
            None => Pipeline::with_structure(self.structure()),
        };
        let mut reading = pipeline.reading().clone();
        reading.encoding = self.encoding.or(reading.encoding);
        reading.delimiter = self.delimiter.or(reading.delimiter);
        if !self.map.is_empty() {
            reading.map = self.map.join(",").parse()?;
        }
        let pipeline = pipeline.reading_as(reading);
        let pipeline = match &self.lexicon {
            Some(path) => pipeline.with(OffTarget::new(Lexicon::load(path)?)),
            None => pipeline,
        };
        Ok(match self.against.as_slice() {
            [] => pipeline,
            files => pipeline.with_set(NearOthers::new(NearDuplicates::default(), files)?),
        })
    }

    /// The order of turns; in a pipeline file, settings of the pass `structure`.
    fn structure(&self) -> Structure {
        Structure {
            same_speaker: self.same_speaker.unwrap_or_default(),
            trailing_user: self.trailing_user.unwrap_or_default(),
            leading_assistant: self.leading_assistant.unwrap_or_default(),
            system: self.system.unwrap_or_default(),
            ..Structure::default()
        }
    }

    /// The passes that a pipeline file may use. The pass `length` counts with the tokenizer of the given model.
    fn registry(&self) -> Result<Registry> {
        let Some(model) = &self.tokenizer else { return Ok(Registry::default()) };
        let (tokenizer, _) = foehn::load_text(model, None, &mut super::show_fetch())?;
        let tokenizer = Arc::new(tokenizer);
        Ok(Registry::default().with("length", "rejects what is too short or too long", move |settings| {
            let tokenizer = Arc::clone(&tokenizer);
            let counter = (tokenizer.fingerprint().to_owned(), move |text: &str| tokenizer.count(text));
            let length = settings.parse::<Length>()?.counting(counter);
            Ok(Pass::Record(Box::new(length)))
        }))
    }
}

/// The setting with this name. For an unknown one, the error lists the known ones.
fn setting<S: DeserializeOwned>(name: &str) -> Result<S, serde::de::value::Error> {
    S::deserialize(name.into_deserializer())
}

/// Cleaning file to file, for make, xargs, Slurm, Ray, Spark or any other program that runs commands
#[derive(Subcommand, Clone, Debug)]
pub enum Stage {
    /// Stage 1 of 3, on any machine: run the passes over single records on one shard, and write a part
    ///
    /// A shard is one or several whole files, or none; a part is a folder. Parts may be made anywhere, in any order, at the
    /// same time, and moved or copied. A part appears whole or not at all, and the same files give the same bytes, so a call
    /// that failed is simply made again. All calls need the same passes and the same --keep.
    ///
    /// With two processes on this machine, and one thread for each:
    ///
    ///     ls shards | xargs -P2 -I{} clean map shards/{} --part parts/{} --threads 1
    ///
    ///     clean judge parts/* --report report.json
    ///
    ///     ls parts | xargs -P2 -I{} clean write parts/{} --out clean/{}
    ///
    /// What `clean shards/* --out clean.jsonl` writes is then `cat clean/*`, byte for byte, and the report is the same.
    Map(MapArgs),
    /// Stage 2 of 3, on one machine, once: compare the records of all parts, and write the report
    ///
    /// The order of the parts is the order of the records. Only sketches are compared, a few numbers a record, whose keys
    /// are sorted on disk. Each part gets a verdict: which of its records are removed, and why.
    Judge(JudgeArgs),
    /// Stage 3 of 3, on any machine: write the clean records of a part, or of several parts in order into one file
    ///
    /// A part needs nothing but itself. To write one Parquet file of everything, name all parts.
    Write(WriteArgs),
}

/// The arguments of the first stage.
#[derive(Args, Clone, Debug)]
pub struct MapArgs {
    /// The files of the shard
    inputs: Vec<PathBuf>,
    /// The folder to write; an earlier part there is replaced
    #[arg(long, value_name = "FOLDER")]
    part: PathBuf,
    /// Keep the record with this id (as in the report), whatever the passes find; may be given several times
    #[arg(long, value_name = "ID")]
    keep: Vec<String>,
    /// The number of threads; by default, as many as the machine runs at once
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// The arguments of the second stage.
#[derive(Args, Clone, Debug)]
pub struct JudgeArgs {
    /// All parts, in order
    #[arg(required = true)]
    parts: Vec<PathBuf>,
    /// The report to write as JSON
    #[arg(long)]
    report: Option<PathBuf>,
    /// The report to write as one HTML page, for people
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
    /// All files of the shards, in order: fail if the parts are not made of exactly these; may be given several times
    #[arg(long, value_name = "FILE", num_args = 1..)]
    inputs: Vec<PathBuf>,
    /// The same ids as for `clean map`
    #[arg(long, value_name = "ID")]
    keep: Vec<String>,
    /// Fail if a pass rejects or flags more than COUNT records (0 if not given); may be given several times
    #[arg(long, value_name = "PASS[:COUNT]")]
    fail_on: Vec<Limit>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// The arguments of the third stage.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// The part, or several parts in order
    #[arg(required = true)]
    parts: Vec<PathBuf>,
    /// The clean file to write: .jsonl, .jsonl.gz, .jsonl.zst or .parquet
    #[arg(long)]
    out: PathBuf,
    /// Write the rejected records as they were read, each with its reason, as JSON lines; needs the shard's files, and the
    /// same passes as `clean map`
    #[arg(long, value_name = "FILE.jsonl")]
    rejects: Option<PathBuf>,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

impl Stage {
    /// Runs the stage.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Map(arguments) => arguments.run(),
            Self::Judge(arguments) => arguments.run(),
            Self::Write(arguments) => arguments.run(),
        }
    }
}

impl MapArgs {
    fn run(&self) -> Result<()> {
        let config = MapConfig { keep: self.keep.iter().cloned().collect(), threads: self.threads };
        let mapped = map_part(&self.inputs, &self.part, &self.pipeline.load()?, &config)?;
        say!("{} records read, {} left for judging: {}", mapped.read, mapped.left, self.part.display());
        Ok(())
    }
}

impl JudgeArgs {
    fn run(&self) -> Result<()> {
        let outputs: Vec<&PathBuf> = self.report.iter().chain(&self.html).collect();
        let inputs: Vec<&PathBuf> = self.inputs.iter().chain(self.pipeline.files()).collect();
        check_outputs(&inputs, &outputs)?;
        let keep: BTreeSet<String> = self.keep.iter().cloned().collect();
        let config = JudgeConfig { keep, inputs: Some(self.inputs.clone()).filter(|inputs| !inputs.is_empty()) };
        let report = judge_parts(&self.parts, &self.pipeline.load()?, &config)?;
        self.report.as_deref().map(|path| report.save(path)).transpose()?;
        self.html.as_deref().map(|path| report.save_page(path)).transpose()?;
        if self.json {
            show_json(&report, true)?;
        } else {
            say!("{report}");
        }
        report.require(&self.fail_on)?;
        report.require_kept()?;
        Ok(())
    }
}

impl WriteArgs {
    fn run(&self) -> Result<()> {
        let kept = write_parts(&self.parts, &self.out)?;
        if let Some(rejects) = &self.rejects {
            check_outputs(&[&self.out], &[rejects])?;
            write_part_rejects(&self.parts, &self.pipeline.load()?, rejects)?;
        }
        say!("{kept} records written: {}", self.out.display());
        Ok(())
    }
}
