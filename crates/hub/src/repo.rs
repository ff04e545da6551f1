//! A repository of the Hugging Face hub: from Foehn's cache, from Hugging Face's cache, or over the network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Folder, write_json};
use crate::download::{CONNECTIONS, Wanted, fetch};
use crate::files::{
    CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, INDEX, NATIVE, PARAMS, SINGLE, TOKENIZER_CONFIG, TOKENIZERS, shards,
};
use crate::huggingface::Listing;
use crate::name::{Repo, is_plain};
use crate::{Attempt, Error, Hub, ModelFiles, Progress, Result};

/// The commit of each revision when it was first fetched: `{"main": "…"}`.
const REFS: &str = "refs.json";

impl Hub {
    pub(crate) fn repo(
        &self,
        name: &str,
        repo: Repo<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<ModelFiles> {
        let root = self.home()?.join("hub").join(repo.id.replace('/', "--"));
        let mut tried = Vec::new();
        let commit = known_commit(&root, repo.revision);
        match from_cache(name, repo, &root, commit.as_deref()) {
            Ok(files) => return Ok(files),
            Err(reason) => tried.push(Attempt { source: "the cache".to_owned(), reason }),
        }
        if let Some(cache) = &self.settings.hf_cache {
            match from_hf_cache(name, repo, cache) {
                Ok(files) => return Ok(files),
                Err(reason) => tried.push(Attempt { source: "Hugging Face's cache".to_owned(), reason }),
            }
        }
        let source = format!("the Hugging Face hub ({})", repo.id);
        match self.over_network(name, repo, &root, commit.as_deref(), &source, progress) {
            Ok(files) => return Ok(files),
            Err(reason) => {
                progress(Progress::Failed { source: &source, reason: &reason });
                tried.push(Attempt { source, reason });
            }
        }
        let advice = "to use files that you have, name their folder or .gguf file instead".to_owned();
        Err(Error::Unavailable { name: name.to_owned(), tried, advice })
    }

    fn over_network(
        &self,
        name: &str,
        repo: Repo<'_>,
        root: &Path,
        commit: Option<&str>,
        source: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<ModelFiles> {
        if self.settings.offline {
            return Err(Error::Offline);
        }
        progress(Progress::Trying { source });
        // If a model in the cache is damaged, the files of the same commit are fetched again.
        let listing = self.remote.list(repo.id, commit.unwrap_or(repo.revision))?;
        if !is_plain(&listing.commit) {
            return Err(Error::NotFound { url: format!("the commit {:?} of {}", listing.commit, repo.id) });
        }
        let mut folder = Folder::open(root.join(&listing.commit));
        let _lock = folder.lock(progress)?;
        let mut fetched = BTreeMap::new();
        let mut get = |wanted: &Wanted| -> Result<()> {
            let sha256 = self.fetch_missing(repo, &listing.commit, wanted, &mut folder, progress)?;
            fetched.insert(wanted.file.clone(), (sha256, source.to_owned()));
            Ok(())
        };
        match repo.file {
            Some(file) => get(listing.find(repo, file)?)?,
            None => {
                // The weights come last, so that a problem with the small files shows before the long wait.
                for wanted in listing.small_files() {
                    get(wanted)?;
                }
                let weights = listing.weights(repo)?;
                get(weights)?;
                if weights.file == INDEX {
                    let index = root.join(&listing.commit).join(INDEX);
                    for shard in read_shards(&index)? {
                        get(listing.find(repo, &shard)?)?;
                    }
                }
            }
        }
        // The manifest is written when all files are there: a folder without it is not used.
        folder.record(fetched)?;
        remember(root, repo.revision, &listing.commit)?;
        from_cache(name, repo, root, Some(&listing.commit))
    }

    /// Fetches a file, unless it exists with the right checksum. Returns its SHA-256.
    fn fetch_missing(
        &self,
        repo: Repo<'_>,
        commit: &str,
        wanted: &Wanted,
        folder: &mut Folder,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<String> {
        if let (Some(size), Some(sha256)) = (wanted.size, &wanted.sha256)
            && folder.verify(&wanted.file, size, sha256).is_ok()
        {
            return Ok(sha256.clone());
        }
        fetch(folder.path(), wanted, CONNECTIONS, progress, |from| {
            self.remote.open(repo.id, commit, &wanted.file, from)
        })
    }
}

impl Listing {
    fn find(&self, repo: Repo<'_>, file: &str) -> Result<&Wanted> {
        let found = self.files.iter().find(|wanted| wanted.file == file && is_plain(file));
        found.ok_or_else(|| Error::NotFound { url: format!("{file} in {} at {}", repo.id, self.commit) })
    }

    fn small_files(&self) -> impl Iterator<Item = &Wanted> {
        let mut names = vec![CONFIG, PARAMS, TOKENIZER_CONFIG, CHAT_TEMPLATE, GENERATION_CONFIG];
        // Repositories have several forms of the same tokenizer. Only the preferred one is fetched.
        names.extend(TOKENIZERS.into_iter().find(|name| self.files.iter().any(|wanted| wanted.file == *name)));
        self.files.iter().filter(move |wanted| names.contains(&&*wanted.file))
    }

    fn weights(&self, repo: Repo<'_>) -> Result<&Wanted> {
        let weights = [INDEX, SINGLE, NATIVE].into_iter().find_map(|file| self.find(repo, file).ok());
        weights.ok_or_else(|| {
            let names = self.files.iter().map(|wanted| wanted.file.clone());
            Error::NoWeights { repo: repo.id.to_owned(), gguf: names.filter(|name| name.ends_with(".gguf")).collect() }
        })
    }
}

fn read_shards(index: &Path) -> Result<impl Iterator<Item = String>> {
    let text = foehn_files::read(index, foehn_files::MAX_TEXT).map_err(|source| Error::Io {
        action: "read",
        path: index.to_owned(),
        source,
    })?;
    Ok(shards(&text, &index.display().to_string())?.into_iter())
}

/// The commit of a revision in the cache. A full commit hash stands for itself.
fn known_commit(root: &Path, revision: &str) -> Option<String> {
    let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit {
        return Some(revision.to_owned());
    }
    refs(root).remove(revision).filter(|commit| is_plain(commit))
}

fn refs(root: &Path) -> BTreeMap<String, String> {
    fs::read(root.join(REFS)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn remember(root: &Path, revision: &str, commit: &str) -> Result<()> {
    let mut refs = refs(root);
    if refs.insert(revision.to_owned(), commit.to_owned()).as_deref() == Some(commit) {
        return Ok(());
    }
    write_json(&root.join(REFS), &refs)
}

/// The model as described by the manifest of its commit, with every file checked.
fn from_cache(name: &str, repo: Repo<'_>, root: &Path, commit: Option<&str>) -> Result<ModelFiles> {
    let Some(commit) = commit else { return Err(Error::NotCached { path: root.to_owned() }) };
    let mut folder = Folder::open(root.join(commit));
    let stamps: Vec<_> = folder.stamps().clone().into_iter().collect();
    let wants = |file: &str| repo.file.map_or(!file.ends_with(".gguf"), |wanted| file == wanted);
    let needed = repo.file.map_or(vec![INDEX, SINGLE, NATIVE], |file| vec![file]);
    if !stamps.iter().any(|(file, _)| needed.contains(&&**file)) {
        return Err(Error::NotCached { path: folder.path().to_owned() });
    }
    for (file, stamp) in stamps.iter().filter(|(file, _)| wants(file)) {
        folder.verify(file, stamp.size, &stamp.sha256)?;
    }
    files(name, repo, folder.path().to_owned())
}

/// Hugging Face's layout: `models--org--name/refs/main` holds the commit, `snapshots/COMMIT` the files.
fn from_hf_cache(name: &str, repo: Repo<'_>, cache: &Path) -> Result<ModelFiles> {
    let root = cache.join(format!("models--{}", repo.id.replace('/', "--")));
    let commit = fs::read_to_string(root.join("refs").join(repo.revision)).unwrap_or_else(|_| repo.revision.to_owned());
    let snapshot = root.join("snapshots").join(commit.trim());
    if !snapshot.is_dir() {
        return Err(Error::NotCached { path: snapshot });
    }
    files(name, repo, snapshot)
}

fn files(name: &str, repo: Repo<'_>, folder: PathBuf) -> Result<ModelFiles> {
    match repo.file {
        Some(file) if folder.join(file).is_file() => Ok(ModelFiles::gguf(name, folder.join(file))),
        Some(file) => Err(Error::NotCached { path: folder.join(file) }),
        None => ModelFiles::in_folder(name, &folder),
    }
}

#[cfg(test)]
mod tests;
