//! What a part says of itself: the files that it was made of, how, and the files that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fault::PartFault;
use super::sealed::{Seal, Unsealing, read_stamped};
use crate::error::{Error, Result};
use crate::read::ReadAs;
use crate::text::sha256_hex;

/// The files of a part.
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const ENTRIES: &str = "entries";
pub(super) const RECORDS: &str = "records";
pub(super) const COLUMNS: &str = "columns";
pub(super) const REMOVED: &str = "removed";
pub(super) const REJECTIONS: &str = "rejections.jsonl";
pub(super) const VERDICT: &str = "verdict.json";

/// The version of a part's files. It changes with them.
const FORMAT: u32 = 1;

/// The sketches of the pass over the set with this index.
pub(super) fn sketches(at: usize) -> String {
    format!("sketches-{at}")
}

/// Whether a part has a file of this name.
pub(super) fn is_name(name: &str) -> bool {
    let names = [MANIFEST, ENTRIES, RECORDS, COLUMNS, REMOVED, REJECTIONS, VERDICT];
    let is_number = |text: &str| text.parse::<usize>().is_ok();
    names.contains(&name) || name.strip_prefix("sketches-").is_some_and(is_number)
}

/// The contents of a part's manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub format: u32,
    /// The hash of the pipeline.
    pub pipeline: String,
    /// The hash of the ids of records to keep.
    pub keep: String,
    pub inputs: Vec<Source>,
    /// How the unusual files were read.
    pub read_as: Vec<ReadAs>,
    /// The number of records read.
    pub read: u64,
    /// The number of records that the passes over single records keep.
    pub stored: u64,
    /// The part's own files.
    pub files: BTreeMap<String, Seal>,
}

/// A file that a part was made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// The path, as the caller wrote it.
    pub path: String,
    pub seal: Seal,
}

impl Source {
    /// Checks that the file is as it was when the part was made of it.
    pub fn check(&self, part: &Part) -> Result<()> {
        let path = Path::new(&self.path);
        let seal = Seal::of(path).map_err(|source| Error::Open { path: path.into(), source })?;
        if seal == self.seal { Ok(()) } else { Err(part.error(PartFault::Changed { input: self.path.clone() })) }
    }
}

/// A part that has been mapped.
#[derive(Debug)]
pub(super) struct Part {
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// The hash of the manifest, by which a verdict names the part.
    pub id: String,
}

impl Manifest {
    pub fn new(pipeline: String, keep: &BTreeSet<String>) -> Self {
        Self {
            format: FORMAT,
            pipeline,
            keep: keep_hash(keep),
            inputs: Vec::new(),
            read_as: Vec::new(),
            read: 0,
            stored: 0,
            files: BTreeMap::new(),
        }
    }
}

/// The hash of a list of ids.
pub(super) fn keep_hash(keep: &BTreeSet<String>) -> String {
    sha256_hex(format!("{keep:?}").as_bytes())
}

impl Part {
    /// Reads the manifest of a part.
    pub fn open(folder: &Path) -> Result<Self> {
        let failed = |fault| Error::Part { path: folder.to_owned(), source: fault };
        if !folder.is_dir() {
            return Err(failed(PartFault::Missing));
        }
        let text = match foehn_files::read_to_string(folder.join(MANIFEST), foehn_files::MAX_TEXT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(failed(PartFault::Unfinished)),
            text => text.map_err(|source| failed(PartFault::File { file: MANIFEST.to_owned(), source }))?,
        };
        let read = read_stamped(&text).map_err(|source| failed(PartFault::Manifest { source }))?;
        let damaged = || failed(PartFault::Damaged { file: MANIFEST.to_owned() });
        let (manifest, id): (Manifest, String) = read.ok_or_else(damaged)?;
        if manifest.format != FORMAT {
            return Err(failed(PartFault::Format { found: manifest.format, expected: FORMAT }));
        }
        Ok(Self { folder: folder.to_owned(), manifest, id })
    }

    /// Checks that the part was made by this pipeline, with these ids to keep.
    pub fn check(&self, pipeline: &str, keep: &str) -> Result<()> {
        let Manifest { pipeline: found, keep: found_keep, .. } = &self.manifest;
        if found != pipeline {
            let (found, expected) = (found.clone(), pipeline.to_owned());
            return Err(self.error(PartFault::Pipeline { found, expected }));
        }
        if found_keep != keep {
            return Err(self.error(PartFault::Keep));
        }
        Ok(())
    }

    pub fn error(&self, source: PartFault) -> Error {
        Error::Part { path: self.folder.clone(), source }
    }

    /// The error of a file whose contents are not those that were written.
    pub fn damaged(&self, file: &str) -> Error {
        self.error(PartFault::Damaged { file: file.to_owned() })
    }

    /// The error of a file that cannot be read, or that ends early or cannot be understood.
    pub fn unreadable(&self, file: &str, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => self.damaged(file),
            _ => self.error(PartFault::File { file: file.to_owned(), source }),
        }
    }

    /// Opens a file of the part, whose size has to be that of the manifest.
    pub fn file(&self, name: &str) -> Result<Unsealing> {
        let path = self.folder.join(name);
        let expected = self.manifest.files.get(name).ok_or_else(|| self.damaged(MANIFEST))?;
        let about = std::fs::metadata(&path).map_err(|source| self.unreadable(name, source))?;
        if about.len() != expected.bytes {
            return Err(self.damaged(name));
        }
        Unsealing::new(&path).map_err(|source| self.unreadable(name, source))
    }

    /// Reads the rest of a file. Its contents have to be those of the manifest.
    pub fn close(&self, name: &str, file: Unsealing) -> Result<()> {
        let seal = file.finish().map_err(|source| self.unreadable(name, source))?;
        if self.manifest.files.get(name) == Some(&seal) { Ok(()) } else { Err(self.damaged(name)) }
    }
}
