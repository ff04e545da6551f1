//! The folders of the cache: the checksum of a file is stored, and computed again when the file has changed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Progress, Result};

const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";

/// A folder of the cache and its manifest.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    manifest: Manifest,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, Stamp>,
}

/// The properties of a file when its checksum was last computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub size: u64,
    pub sha256: String,
    /// Nanoseconds since 1970; 0 if the file system does not have the time.
    pub modified: u64,
    /// The source of the file.
    pub source: String,
}

impl Folder {
    /// The folder at `path`, which need not exist. If the manifest cannot be read, it is ignored and the files are
    /// checked again.
    pub fn open(path: PathBuf) -> Self {
        let manifest = fs::read(path.join(MANIFEST)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, manifest: manifest.unwrap_or_default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names and checksums of all files that were fetched into the folder.
    pub fn stamps(&self) -> &BTreeMap<String, Stamp> {
        &self.manifest.files
    }

    /// Checks that `file` exists with this size and checksum. If the size and time are those in the manifest, the
    /// manifest's checksum is used. Otherwise the file is read, and the manifest is updated.
    ///
    /// # Errors
    /// [`Error::NotCached`], [`Error::Length`], [`Error::Checksum`] or [`Error::Io`].
    pub fn verify(&mut self, file: &str, size: u64, sha256: &str) -> Result<()> {
        let path = self.path.join(file);
        let Ok(metadata) = fs::metadata(&path) else { return Err(Error::NotCached { path }) };
        let place = path.display().to_string();
        if metadata.len() != size {
            return Err(Error::Length { file: place, expected: size, found: metadata.len() });
        }
        let known = self.manifest.files.get(file);
        if known.is_some_and(|stamp| stamp.sha256 == sha256 && stamp.is_of(&metadata)) {
            return Ok(());
        }
        let found = sha256_of(&path)?;
        if found != sha256 {
            return Err(Error::Checksum { file: place, expected: sha256.to_owned(), found });
        }
        let source = known.map_or("placed by hand", |stamp| &stamp.source).to_owned();
        // A read-only cache still works. It only means that the checksum is computed at each use.
        let _ = self.record(BTreeMap::from([(file.to_owned(), (found, source))]));
        Ok(())
    }

    /// Records the checksums and sources of these files in the manifest.
    pub fn record(&mut self, files: BTreeMap<String, (String, String)>) -> Result<()> {
        for (file, (sha256, source)) in files {
            let path = self.path.join(&file);
            let metadata = fs::metadata(&path).map_err(|source| Error::Io { action: "look at", path, source })?;
            let stamp = Stamp { size: metadata.len(), sha256, modified: modified(&metadata), source };
            self.manifest.files.insert(file, stamp);
        }
        write_json(&self.path.join(MANIFEST), &self.manifest)
    }

    /// Creates the folder and waits until no other process fetches into it. Dropping the returned file releases the
    /// lock.
    pub fn lock(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<File> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir_all(&self.path).map_err(io("create", &self.path))?;
        let path = self.path.join(LOCK);
        let file = File::create(&path).map_err(io("create", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                progress(Progress::Waiting { folder: &self.path });
                file.lock().map_err(io("lock", &path))?;
            }
            // On a file system without locks, two processes may both fetch; the last rename wins.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            result => result.map_err(io::Error::from).map_err(io("lock", &path))?,
        }
        Ok(file)
    }
}

impl Stamp {
    fn is_of(&self, metadata: &Metadata) -> bool {
        self.size == metadata.len() && self.modified != 0 && self.modified == modified(metadata)
    }
}

fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io("open"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io("read"))? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes indented JSON atomically.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let io = |source| Error::Io { action: "write", path: path.to_owned(), source };
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|source| Error::Json { place: path.display().to_string(), source })?;
    text.push(b'\n');
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    foehn_files::write(path, &text).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_believed_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Folder::open(folder.path().to_owned());
        let path = folder.path().join("f");
        assert!(matches!(open().verify("f", 3, ABC), Err(Error::NotCached { .. })));

        // A file that the user placed by hand is accepted.
        fs::write(&path, "abc").unwrap();
        open().verify("f", 3, ABC).unwrap();
        assert_eq!(open().stamps()["f"].source, "placed by hand");

        // Truncated; then of the right length with other bytes and another time; then correct again.
        fs::write(&path, "ab").unwrap();
        assert!(matches!(open().verify("f", 3, ABC), Err(Error::Length { found: 2, .. })));
        fs::write(&path, "abd").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert!(matches!(open().verify("f", 3, ABC), Err(Error::Checksum { .. })));
        fs::write(&path, "abc").unwrap();
        open().verify("f", 3, ABC).unwrap();

        // A broken manifest only means that the checksum is computed again.
        fs::write(folder.path().join(MANIFEST), "{").unwrap();
        open().verify("f", 3, ABC).unwrap();
        assert_eq!(open().stamps().len(), 1);
    }

    #[test]
    fn a_second_process_waits_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path().join("new")).lock(&mut |_| panic!("nobody else is here")).unwrap();
        let (waiting, waits) = std::sync::mpsc::channel();
        let path = folder.path().join("new");
        let second = std::thread::spawn(move || {
            Folder::open(path).lock(&mut |event| {
                assert!(matches!(event, Progress::Waiting { .. }));
                waiting.send(()).unwrap();
            })
        });
        waits.recv().unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    }
}
