//! What changed since an earlier report, and the limits that a report must keep.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

use super::{CleanReport, PassReport};
use crate::error::{Error, Result};

/// The counts of an earlier [`CleanReport`], as its file has them.
#[derive(Clone, Debug, Deserialize)]
pub struct EarlierReport {
    read: u64,
    kept: u64,
    flagged: u64,
    passes: Vec<PassReport>,
}

/// A count that differs between two reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is counted: `read`, `kept`, `flagged`, or a pass and what it did.
    pub what: String,
    /// The earlier count; `None` if there was no such pass.
    pub before: Option<u64>,
    /// The count now; `None` if there is no such pass.
    pub now: Option<u64>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        write!(f, "{:<32}{:>9} -> {}", self.what, shown(self.before), shown(self.now))
    }
}

impl EarlierReport {
    /// Opens a report's file.
    ///
    /// # Errors
    /// [`Error::Open`] and [`Error::Report`].
    pub fn open(path: &Path) -> Result<Self> {
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| Error::Report { path: path.to_owned(), source })
    }
}

impl CleanReport {
    /// Every count that differs from an earlier report, in the order of the passes.
    pub fn since(&self, earlier: &EarlierReport) -> Vec<Difference> {
        let whole =
            |what: &str, before, now| Difference { what: what.to_owned(), before: Some(before), now: Some(now) };
        let mut all = vec![
            whole("read", earlier.read, self.read),
            whole("kept", earlier.kept, self.kept),
            whole("flagged", earlier.flagged, self.flagged),
        ];
        let gone = earlier.passes.iter().filter(|old| self.passes.iter().all(|pass| pass.pass != old.pass));
        for name in self.passes.iter().chain(gone).map(|pass| &pass.pass) {
            let [before, now] = [&earlier.passes, &self.passes].map(|list| list.iter().find(|pass| &pass.pass == name));
            let counts = [
                ("rejected", before.map(|pass| pass.rejected), now.map(|pass| pass.rejected)),
                ("flagged", before.map(|pass| pass.flagged), now.map(|pass| pass.flagged)),
                ("changed", before.map(|pass| pass.changed), now.map(|pass| pass.changed)),
            ];
            let named = |(what, before, now)| Difference { what: format!("{name}: {what}"), before, now };
            all.extend(counts.map(named));
        }
        all.retain(|difference| difference.before.unwrap_or(0) != difference.now.unwrap_or(0));
        all
    }
}

/// The most records that a pass may find fault with: `near-duplicate:10`, or `pii` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The pass.
    pub pass: String,
    /// The most records that it may reject or flag.
    pub most: u64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (pass, most) = match text.split_once(':') {
            Some((pass, most)) => (pass, most.parse().map_err(|_| format!("`{most}` is no number of records"))?),
            None => (text, 0),
        };
        Ok(Self { pass: pass.to_owned(), most })
    }
}

impl CleanReport {
    /// Returns an error if a pass rejected and flagged more records than a limit allows.
    ///
    /// # Errors
    /// [`Error::NoSuchPass`] for a pass that did not run, [`Error::Limit`] naming the first limit that is exceeded.
    pub fn require(&self, limits: &[Limit]) -> Result<()> {
        let passes: Vec<&PassReport> = limits
            .iter()
            .map(|limit| {
                let found = self.passes.iter().find(|pass| pass.pass == limit.pass);
                let known = || self.passes.iter().map(|pass| pass.pass.clone()).collect();
                found.ok_or_else(|| Error::NoSuchPass { pass: limit.pass.clone(), passes: known() })
            })
            .collect::<Result<_>>()?;
        match limits.iter().zip(passes).find(|(limit, pass)| pass.rejected + pass.flagged > limit.most) {
            Some((limit, pass)) => {
                let found = pass.rejected + pass.flagged;
                Err(Error::Limit { pass: limit.pass.clone(), found, most: limit.most })
            }
            None => Ok(()),
        }
    }
}
