//! `state.json`: the state of a run, with the size and hash of every file of the checkpoint, itself included.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{State, write_file};
use crate::Error;

const STATE: &str = "state.json";

#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    state: State,
    files: BTreeMap<String, FileSeal>,
    /// The hash of this file, computed with zeros in place of the hash's own digits.
    sha256: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileSeal {
    bytes: u64,
    sha256: String,
}

/// Writes `state.json` beside the files whose sizes and hashes it holds.
pub fn write(folder: &Path, state: &State) -> Result<(), Error> {
    let blank = "0".repeat(64);
    let sealed = Sealed { state: state.clone(), files: files(folder)?, sha256: blank.clone() };
    let failed = |source: serde_json::Error| Error::File { path: folder.join(STATE), source: source.into() };
    let text = serde_json::to_string_pretty(&sealed).map_err(failed)?;
    let own = hash(text.as_bytes());
    write_file(&folder.join(STATE), text.replace(&blank, &own).as_bytes())
}

/// Reads `state.json` and checks every file against it.
pub fn read(folder: &Path) -> Result<State, Error> {
    let path = folder.join(STATE);
    let text = fs::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let broken = |path: &Path, reason: String| Error::Checkpoint { path: path.to_owned(), reason };
    let text = String::from_utf8(text).map_err(|error| broken(&path, error.to_string()))?;
    let sealed: Sealed = serde_json::from_str(&text).map_err(|error| broken(&path, error.to_string()))?;
    let blank = text.replace(&sealed.sha256, &"0".repeat(64));
    if hash(blank.as_bytes()) != sealed.sha256 {
        return Err(broken(&path, "its SHA-256 is not the one that it says".into()));
    }
    let found = files(folder)?;
    for (name, expected) in &sealed.files {
        match found.get(name) {
            None => return Err(broken(&folder.join(name), "it is missing".into())),
            Some(found) if found.bytes != expected.bytes => {
                let reason = format!("it has {} bytes, {} were written", found.bytes, expected.bytes);
                return Err(broken(&folder.join(name), reason));
            }
            Some(found) if found != expected => {
                return Err(broken(&folder.join(name), "its SHA-256 is not that of what was written".into()));
            }
            Some(_) => {}
        }
    }
    Ok(sealed.state)
}

/// All files in a folder except `state.json`, by their relative paths.
fn files(folder: &Path) -> Result<BTreeMap<String, FileSeal>, Error> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        for entry in fs::read_dir(&inner).map_err(failed(&inner))? {
            let path = entry.map_err(failed(&inner))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let parts = path.strip_prefix(folder).unwrap_or(&path).components();
            let name = parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
            if name != STATE {
                let bytes = fs::read(&path).map_err(failed(&path))?;
                found.insert(name, FileSeal { bytes: bytes.len() as u64, sha256: hash(&bytes) });
            }
        }
    }
    Ok(found)
}

/// The SHA-256 of bytes, in lower-case hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
