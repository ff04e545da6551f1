//! The outputs of an export: where they may be, and that each appears as a whole.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use foehn::files::{DraftFolder, folder_of, is_empty_or_absent, is_same, sync_folder};
use indicatif::ProgressBar;

use super::terminal::say;

/// An adapter's folder and its weight, `PATH` or `PATH=WEIGHT`.
#[derive(Clone, Debug)]
pub struct Weighted(pub PathBuf, pub f64);

impl FromStr for Weighted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('=') {
            Some((path, weight)) if !Path::new(text).exists() => {
                let weight = weight.parse().ok().filter(|weight: &f64| weight.is_finite());
                Ok(Self(path.into(), weight.ok_or_else(|| format!("the weight after = in {text:?} is not a number"))?))
            }
            _ => Ok(Self(text.into(), 1.0)),
        }
    }
}

/// A number of bytes, such as `5GB` or `500MB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000), ("GIB", 1 << 30), ("MIB", 1 << 20)];
        let upper = text.to_uppercase();
        let found = units.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)));
        let (number, unit) = found.unwrap_or((&upper, 1));
        let number: Option<u64> = number.trim().parse().ok();
        let bytes = number.and_then(|number| number.checked_mul(unit)).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(|| format!("{text:?} is not a size such as 5GB or 500MB"))
    }
}

/// The name of an adapter: that of its folder, or of the run's folder if it is called `adapter`.
pub fn name_of(adapter: &Path) -> String {
    let path = std::fs::canonicalize(adapter).unwrap_or_else(|_| adapter.to_owned());
    let of = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    match path.parent() {
        Some(parent) if of(&path) == "adapter" && parent.file_name().is_some() => of(parent),
        _ => of(&path),
    }
}

/// Refuses an output that is an input, or that lies where an input's files are.
pub fn check_out(out: &Path, inputs: &[PathBuf]) -> Result<()> {
    for input in inputs.iter().filter(|input| input.exists()) {
        let is_inside = input.is_file() && is_same(folder_of(input), out);
        let holds = input.is_dir() && is_same(folder_of(out), input);
        ensure!(
            !is_same(input, out) && !is_inside && !holds,
            "{} is read and cannot be written to: choose another place",
            input.display()
        );
    }
    Ok(())
}

/// Refuses a file that is there.
pub fn free_file(path: &Path, overwrite: bool) -> Result<()> {
    ensure!(overwrite || !path.exists(), "{} exists: choose another name, or say --overwrite", path.display());
    ensure!(!path.is_dir(), "{} is a folder: name a file", path.display());
    std::fs::create_dir_all(folder_of(path)).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file beside its place, and moves it there when all is well.
pub fn replace_file(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    // A draft of a folder beside it, which is never finished: its file is moved out.
    let draft = DraftFolder::new(path).with_context(failed)?;
    let inner = draft.path().join("model.gguf");
    write(&inner)?;
    std::fs::rename(&inner, path).with_context(failed)?;
    sync_folder(folder_of(path)).with_context(failed)
}

/// The beginnings and ends of the names of files that an export writes. A folder with others is not replaced.
const OURS: [&str; 12] = [
    "model",
    "config.json",
    "generation_config.json",
    "tokenizer",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "README.md",
    "adapter",
    "foehn.json",
    "Modelfile",
    "tekken.json",
];
const NATIVE: [&str; 2] = ["lora.safetensors", "params.json"];

/// Writes a folder beside its place, and moves it there when all is well. With `overwrite`, it replaces an earlier export.
pub fn replace_folder(place: &Path, overwrite: bool, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = || format!("cannot write into {}", place.display());
    if !is_empty_or_absent(place).with_context(failed)? {
        ensure!(overwrite, "{} is not empty: choose another folder, or say --overwrite", place.display());
        for entry in std::fs::read_dir(place).with_context(failed)? {
            let name = entry.with_context(failed)?.file_name().to_string_lossy().into_owned();
            let is_ours = OURS.iter().any(|ours| name.starts_with(ours)) || NATIVE.contains(&name.as_str());
            ensure!(
                is_ours,
                "{} holds {:?}, which no export writes, and would lose it: choose another folder",
                place.display(),
                name
            );
        }
    }
    let draft = DraftFolder::new(place).with_context(failed)?;
    write(draft.path())?;
    draft.finish().with_context(failed)?;
    say!("wrote {}", place.display());
    Ok(())
}

/// Shows how many tensors are written.
pub fn show_tensors(what: &'static str) -> impl FnMut(usize, usize) {
    let mut bar: Option<ProgressBar> = None;
    move |done, total| {
        let bar = bar.get_or_insert_with(|| super::progress(what, total as u64));
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
        }
    }
}
