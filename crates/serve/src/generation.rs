//! The waiting end of a group of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use foehn_generate::{Event, Request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::api_error::{ApiError, ApiResult};
use crate::driver::{Command, GroupEvent, GroupId};

/// The most events of a request that wait for its client. A client that falls behind further is cut off.
pub(crate) const BUFFER: usize = 1024;

/// The way to the engine's thread.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: Sender<Command>,
    gone: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    /// The number of groups that are waited for.
    open: watch::Sender<usize>,
}

impl Handle {
    pub fn new(commands: Sender<Command>, gone: Arc<AtomicBool>) -> Self {
        Self { commands, gone, next: Arc::default(), open: watch::Sender::new(0) }
    }

    /// Whether the engine's thread has ended.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Returns once no group is waited for.
    pub async fn idle(&self) {
        // The sender lives as long as this handle.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Ends all groups.
    pub fn cancel_all(&self) {
        let _ = self.commands.send(Command::CancelAll);
    }

    fn send(&self, command: Command) -> ApiResult<()> {
        self.commands.send(command).map_err(|_| ApiError::engine_gone())
    }

    /// Sends a command with a way for the reply.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> ApiResult<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| ApiError::engine_gone())
    }

    /// Adds requests, all or none.
    pub async fn generate(&self, requests: Vec<Request>, deadline: Option<Instant>) -> ApiResult<Generation> {
        let group = self.next.fetch_add(1, Ordering::Relaxed);
        let running = requests.len();
        let (events, receiver) = mpsc::channel(BUFFER * running.max(1));
        self.open.send_modify(|open| *open += 1);
        // Made before the requests are added, so that a client that hangs up meanwhile is noticed too.
        let generation = Generation { handle: self.clone(), group, events: receiver, running, deadline };
        let added = self.ask(|reply| Command::Add { group, requests, events, reply });
        match deadline {
            Some(deadline) => timeout_at(deadline, added).await.map_err(|_| ApiError::timeout())??,
            None => added.await?,
        }?;
        Ok(generation)
    }
}

/// The events of a group. Dropped before its end, it frees the group's requests at once.
#[derive(Debug)]
pub(crate) struct Generation {
    handle: Handle,
    group: GroupId,
    events: mpsc::Receiver<GroupEvent>,
    running: usize,
    deadline: Option<Instant>,
}

impl Generation {
    /// The next event, with the place of its request in the group; `None` after the end of all. After an error, nothing
    /// follows.
    pub async fn next(&mut self) -> Option<ApiResult<GroupEvent>> {
        if self.running == 0 {
            return None;
        }
        let next = self.events.recv();
        let event = match self.deadline {
            Some(deadline) => match timeout_at(deadline, next).await {
                Ok(event) => event,
                Err(_) => return Some(Err(self.ended(ApiError::timeout()))),
            },
            None => next.await,
        };
        match event {
            Some((_, Event::Failed(error))) => Some(Err(self.ended(error.into()))),
            Some((index, event)) => {
                self.running -= usize::from(matches!(event, Event::Finished { .. }));
                Some(Ok((index, event)))
            }
            None if self.handle.is_gone() => Some(Err(self.ended(ApiError::engine_gone()))),
            None => Some(Err(self.ended(ApiError::server(
                "the request was cut off: its client did not read, or the server is shutting down",
            )))),
        }
    }

    /// Frees the requests that still run.
    fn ended(&mut self, error: ApiError) -> ApiError {
        self.running = 0;
        let _ = self.handle.send(Command::Cancel(self.group));
        error
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.running > 0 {
            let _ = self.handle.send(Command::Cancel(self.group));
        }
        self.handle.open.send_modify(|open| *open -= 1);
    }
}
