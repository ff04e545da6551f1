//! Output to a terminal or a pipe, and signals that end an example.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use foehn::files::{printable_json, printable_text};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// As `println!`, but what comes from files cannot steer the terminal, and a reader that has gone away ends the example
/// quietly; a training run goes on without its output.
macro_rules! say {
    ($($text:tt)*) => { $crate::common::terminal::show(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `eprintln!`, but what comes from files cannot steer the terminal, and a closed stderr is no panic.
macro_rules! tell {
    ($($text:tt)*) => { $crate::common::terminal::show_on_stderr(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use {say, tell};

static GOES_ON: AtomicBool = AtomicBool::new(false);

/// After this call, a closed stdout does not end the example.
pub fn go_on_without_reader() {
    GOES_ON.store(true, Ordering::Relaxed);
}

/// Writes to stdout at once. Escaped is what would steer a terminal, but for line feeds and tabs.
pub fn show(text: Arguments<'_>) {
    show_as_is(format_args!("{}", printable_text(text)));
}

/// Writes a value as JSON to stdout, on one line or indented.
pub fn show_json(value: &impl Serialize, indented: bool) -> serde_json::Result<()> {
    let json = if indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }?;
    show_as_is(format_args!("{}\n", printable_json(json)));
    Ok(())
}

/// Writes to stderr, escaped as [`show`] does.
pub fn show_on_stderr(text: Arguments<'_>) {
    // Whoever closed stderr wants none of it.
    let _ = write!(stderr(), "{}", printable_text(text));
}

/// Writes to stdout at once, without escaping.
pub fn show_as_is(text: Arguments<'_>) {
    let mut out = stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if GOES_ON.load(Ordering::Relaxed) {
        return;
    }
    if error.kind() != ErrorKind::BrokenPipe {
        tell!("error: cannot write to stdout: {error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// A signal has ended a run after a step, and a checkpoint was written.
#[derive(Debug, thiserror::Error)]
#[error("stopped by {name}; everything so far is in the newest checkpoint: go on with --resume")]
pub struct Stopped {
    name: &'static str,
    /// 128 plus the signal's number, as in shells.
    pub status: u8,
}

/// Records signals that ask the program to end. The second one ends it at once.
pub struct Interrupt {
    received: Arc<AtomicUsize>,
    ends_at_once: Arc<AtomicBool>,
}

impl Interrupt {
    pub fn watch() -> std::io::Result<Self> {
        let (received, ends_at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for &signal in [SIGINT, SIGTERM].iter().chain(HANG_UP) {
            // The order matters: at the first signal, the flag is not yet set when it is checked, and is set
            // afterwards.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ends_at_once))?;
            flag::register(signal, Arc::clone(&ends_at_once))?;
            flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
        }
        Ok(Self { received, ends_at_once })
    }

    /// The signal that was received, if any.
    pub fn received(&self) -> Option<Stopped> {
        let signal = i32::try_from(self.received.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)?;
        let name = match signal {
            SIGINT => "SIGINT",
            SIGTERM => "SIGTERM",
            _ => "SIGHUP",
        };
        Some(Stopped { name, status: u8::try_from(128 + signal).unwrap_or(u8::MAX) })
    }
}

impl Drop for Interrupt {
    /// After training, no checkpoint is pending, so a signal may end the program at once.
    fn drop(&mut self) {
        self.ends_at_once.store(true, Ordering::Relaxed);
    }
}

#[cfg(unix)]
const HANG_UP: &[i32] = &[signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const HANG_UP: &[i32] = &[];
