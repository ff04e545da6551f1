//! Output to a terminal or a pipe, and signals that end an example.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Like `println!`, but if the reader has closed the pipe, the example ends quietly; a training run continues without
/// output.
macro_rules! say {
    ($($text:tt)*) => { $crate::common::terminal::show(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use say;

static GOES_ON: AtomicBool = AtomicBool::new(false);

/// After this call, a closed stdout does not end the example.
pub fn go_on_without_reader() {
    GOES_ON.store(true, Ordering::Relaxed);
}

/// Writes to stdout and flushes it.
pub fn show(text: Arguments<'_>) {
    let mut out = stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if GOES_ON.load(Ordering::Relaxed) {
        return;
    }
    if error.kind() != ErrorKind::BrokenPipe {
        eprintln!("error: cannot write to stdout: {error}");
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
