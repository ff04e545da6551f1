//! The engine's thread: it takes commands between steps, and hands events to whoever waits for them.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use foehn_generate::{Error, Event, Request};
use tokio::sync::{mpsc, oneshot};

use crate::Batch;
use crate::metrics::{Clock, Metrics};

/// The requests of one call of the interface are a group. They are added and cancelled together.
pub(crate) type GroupId = u64;
/// An event of a group's request, by its place in the group.
pub(crate) type GroupEvent = (usize, Event);

/// What the thread is told.
pub(crate) enum Command {
    Add {
        group: GroupId,
        requests: Vec<Request>,
        events: mpsc::Sender<GroupEvent>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Cancel(GroupId),
    CancelAll,
    /// The model is a [`Batch::Model`], so that nothing but the thread has to know its type.
    AddModel {
        name: String,
        model: Box<dyn Any + Send>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    RemoveModel {
        name: String,
        reply: oneshot::Sender<bool>,
    },
}

/// Starts the thread. `gone` is set when it ends, whether by a panic or because every sender has gone.
pub(crate) fn start<B: Batch>(
    engine: B,
    metrics: Arc<Metrics>,
    gone: Arc<AtomicBool>,
) -> std::io::Result<Sender<Command>> {
    let (sender, commands) = channel();
    let gone = Flag(gone);
    let driver = Driver { _gone: gone, engine, commands, metrics, groups: HashMap::new(), owners: HashMap::new() };
    std::thread::Builder::new().name("foehn-engine".to_owned()).spawn(move || driver.run())?;
    Ok(sender)
}

/// Is set when it is dropped, also when the thread unwinds.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Driver<B: Batch> {
    /// Dropped first: whoever finds that nothing follows can then see why.
    _gone: Flag,
    engine: B,
    commands: Receiver<Command>,
    metrics: Arc<Metrics>,
    groups: HashMap<GroupId, Group<B::Id>>,
    owners: HashMap<B::Id, Owner>,
}

struct Group<I> {
    ids: Vec<I>,
    events: mpsc::Sender<GroupEvent>,
}

/// Where the events of a request go.
struct Owner {
    group: GroupId,
    index: usize,
    prompt: usize,
    clock: Clock,
}

impl<B: Batch> Driver<B> {
    fn run(mut self) {
        loop {
            let command = if self.engine.is_idle() {
                self.commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(command) => self.obey(command),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => self.step(),
            }
            self.metrics.busy(self.engine.stats());
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add { group, requests, events, reply } => {
                // Whoever no longer waits for the reply sends `Cancel` next.
                let _ = reply.send(self.add(group, requests, events));
            }
            Command::Cancel(group) => self.cancel(group),
            Command::CancelAll => {
                let groups: Vec<_> = self.groups.keys().copied().collect();
                groups.into_iter().for_each(|group| self.cancel(group));
            }
            Command::AddModel { name, model, reply } => {
                let added = match model.downcast::<B::Model>() {
                    Ok(model) => self.engine.add_model(name, *model),
                    Err(_) => Err(Error::UnknownModel { name }),
                };
                let _ = reply.send(added);
            }
            Command::RemoveModel { name, reply } => {
                let _ = reply.send(self.engine.remove_model(&name));
            }
        }
    }

    /// Adds all requests of a group or none.
    fn add(&mut self, group: GroupId, requests: Vec<Request>, events: mpsc::Sender<GroupEvent>) -> Result<(), Error> {
        let mut ids = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            let prompt = request.prompt.len();
            match self.engine.add(request) {
                Ok(id) => {
                    ids.push(id);
                    self.owners.insert(id, Owner { group, index, prompt, clock: Clock::new() });
                }
                Err(error) => {
                    self.forget(&ids);
                    return Err(error);
                }
            }
        }
        self.groups.insert(group, Group { ids, events });
        Ok(())
    }

    fn cancel(&mut self, group: GroupId) {
        if let Some(Group { ids, .. }) = self.groups.remove(&group) {
            self.forget(&ids);
        }
    }

    fn forget(&mut self, ids: &[B::Id]) {
        for id in ids {
            if self.owners.remove(id).is_some() {
                self.engine.cancel(*id);
            }
        }
    }

    fn step(&mut self) {
        let Self { engine, metrics, groups, owners, .. } = self;
        let mut cut = Vec::new();
        engine.step(&mut |id, event| {
            let Some(owner) = owners.get_mut(&id) else { return };
            metrics.happened(&event, owner.prompt, &mut owner.clock);
            let (group, index) = (owner.group, owner.index);
            if matches!(event, Event::Finished { .. } | Event::Failed(_)) {
                owners.remove(&id);
            }
            // The buffer of a client that does not read is full at some point. Nobody waits for it.
            if groups.get(&group).is_some_and(|group| group.events.try_send((index, event)).is_err()) {
                cut.push(group);
            }
        });
        cut.into_iter().for_each(|group| self.cancel(group));
        let Self { groups, owners, .. } = self;
        groups.retain(|_, group| group.ids.iter().any(|id| owners.contains_key(id)));
    }
}
