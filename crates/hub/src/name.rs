//! Parses the names of models.

use std::path::Path;

use crate::known::{KNOWN, Known};
use crate::{Error, Result};

/// A parsed name.
pub(crate) enum Name<'a> {
    /// A file or folder that exists.
    Path(&'a Path),
    Known(&'static Known),
    Repo(Repo<'a>),
}

/// `org/name[/file.gguf][@revision]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repo<'a> {
    /// `org/name`.
    pub id: &'a str,
    /// One GGUF file of the repository, instead of its safetensors.
    pub file: Option<&'a str>,
    /// A branch, tag or commit.
    pub revision: &'a str,
}

/// Parses `name`. An existing path is preferred.
///
/// # Errors
/// [`Error::UnknownName`].
pub(crate) fn parse(name: &str) -> Result<Name<'_>> {
    if Path::new(name).exists() {
        return Ok(Name::Path(Path::new(name)));
    }
    if let Some(known) = KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(name)) {
        return Ok(Name::Known(known));
    }
    let unknown = || Error::UnknownName { name: name.to_owned(), known: crate::known_names().collect() };
    parse_repo(name).map(Name::Repo).ok_or_else(unknown)
}

fn parse_repo(name: &str) -> Option<Repo<'_>> {
    let (path, revision) = name.split_once('@').unwrap_or((name, "main"));
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    let (_, second) = (slashes.next()?, slashes.next());
    let (id, file) = match second {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    };
    let plain_gguf = |file: &str| is_plain(file) && file.ends_with(".gguf");
    let good = id.split('/').all(is_plain)
        && !id.ends_with(".gguf")
        && file.is_none_or(plain_gguf)
        && revision.split('/').all(is_plain);
    good.then_some(Repo { id, file, revision })
}

/// Whether a part of a name has only characters that the hub allows, and no special meaning for a file system.
pub(crate) fn is_plain(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_other_names() {
        let check = |name, expected: Option<(&str, Option<&str>, &str)>| {
            let expected = expected.map(|(id, file, revision)| Repo { id, file, revision });
            assert_eq!(parse_repo(name), expected, "{name}");
        };
        check("mistralai/Mistral-7B-v0.3", Some(("mistralai/Mistral-7B-v0.3", None, "main")));
        check("a/b@v1.0", Some(("a/b", None, "v1.0")));
        check("a/b@refs/pr/1", Some(("a/b", None, "refs/pr/1")));
        check("a/b/c.Q4_K_M.gguf@main", Some(("a/b", Some("c.Q4_K_M.gguf"), "main")));
        for name in ["a", "", "/", "a/", "/b", "a/b/", "a/b/c", "./a", "../a/b.gguf", "a/b.gguf", "a/..", "a b/c"] {
            check(name, None);
        }
        for name in ["a/b@", "a/b@../x", "a/b/../c.gguf", "a/b/.gguf", "a/b/c/d.gguf", "a\\b/c", "/etc/passwd"] {
            check(name, None);
        }
    }

    #[test]
    fn short_names_are_known_in_any_case() {
        assert!(
            matches!(parse("SmolLM2-135M-Instruct"), Ok(Name::Known(known)) if known.name == "smollm2-135m-instruct")
        );
        let error = parse("smollm").err().unwrap().to_string();
        assert!(error.contains("\"smollm\"") && error.contains("smollm2-135m-instruct"), "{error}");
    }
}
