//! The two GET requests of the Hugging Face hub that are used: the contents of a repository, and the bytes of a file.
//!
//! `GET {endpoint}/api/models/{repo}/revision/{revision}?blobs=true` names the commit and, for each file, its size and (for
//! the large ones) its SHA-256; `GET {endpoint}/{repo}/resolve/{commit}/{file}` redirects to the bytes
//! (<https://huggingface.co/docs/hub/api>, and `HfApi.model_info` of the Python package `huggingface_hub`).

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http};

use crate::download::{Incoming, Wanted};
use crate::{Error, Result, Settings};

/// The timeout for resolving the host name, and again for connecting.
const CONNECT: Duration = Duration::from_secs(10);
/// The timeout for each wait on an open connection. The whole download has no time limit.
const SILENCE: Duration = Duration::from_secs(30);

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub commit: String,
    pub files: Vec<Wanted>,
}

/// The part of the hub that this crate uses. Tests have their own implementation.
pub(crate) trait Remote: Send + Sync {
    fn list(&self, repo: &str, revision: &str) -> Result<Listing>;
    fn open(&self, repo: &str, commit: &str, file: &str, from: u64) -> Result<Incoming<'static>>;
}

/// The hub itself.
pub(crate) struct HuggingFace {
    pub settings: Settings,
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

impl Remote for HuggingFace {
    fn list(&self, repo: &str, revision: &str) -> Result<Listing> {
        // A revision such as `refs/pr/1` must be one part of the path.
        let revision = revision.replace('/', "%2F");
        let url = format!("{}/api/models/{repo}/revision/{revision}?blobs=true", self.settings.endpoint);
        let info: ModelInfo = read_json(&url, self.get(&url, 0)?)?;
        let files = info.siblings.into_iter().map(|Sibling { rfilename, size, lfs }| Wanted {
            file: rfilename,
            size,
            sha256: lfs.map(|lfs| lfs.sha256),
        });
        Ok(Listing { commit: info.sha, files: files.collect() })
    }

    fn open(&self, repo: &str, commit: &str, file: &str, from: u64) -> Result<Incoming<'static>> {
        let url = format!("{}/{repo}/resolve/{commit}/{file}", self.settings.endpoint);
        let response = self.get(&url, from)?;
        let partial = response.status() == http::StatusCode::PARTIAL_CONTENT;
        let from = if partial { from } else { 0 };
        Ok(Incoming { from, reader: Box::new(response.into_body().into_reader()) })
    }
}

impl HuggingFace {
    fn get(&self, url: &str, from: u64) -> Result<http::Response<Body>> {
        let mut request = self.agent()?.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = &self.settings.token {
            // `ureq` sends this header only to this host, not to the host of a redirect.
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::StatusCode(status @ (401 | 403)) => Error::AccessDenied { url: url.to_owned(), status },
            ureq::Error::StatusCode(404) => Error::NotFound { url: url.to_owned() },
            error => Error::Http { url: url.to_owned(), source: Box::new(error) },
        })
    }

    fn agent(&self) -> Result<Agent> {
        let mut config = Agent::config_builder()
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("foehn/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.settings.certificates {
            let roots = RootCerts::Specific(Arc::new(certificates(path)?));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(config.build().new_agent())
    }
}

fn certificates(path: &Path) -> Result<Vec<ureq::tls::Certificate<'static>>> {
    let text = foehn_files::read(path, foehn_files::MAX_TEXT).map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let found: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::Certificates { path: path.to_owned() });
    }
    Ok(found)
}

/// The largest response that is read as a whole. Even repositories with thousands of files are far below it.
const MAX_JSON: u64 = 64 << 20;

fn read_json<T: DeserializeOwned>(url: &str, response: http::Response<Body>) -> Result<T> {
    let mut text = Vec::new();
    let read = response.into_body().into_reader().take(MAX_JSON).read_to_end(&mut text);
    read.map_err(|error| Error::Http { url: url.to_owned(), source: Box::new(error.into()) })?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { place: url.to_owned(), source })
}

#[cfg(test)]
mod tests;
