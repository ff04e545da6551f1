//! Processes records on several threads, and returns the results in the order of the files.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::error::{Error, Result};
use crate::read::{Line, Raw, ReadAs, ReadConfig, read_with};

/// A batch is full at this number of records, or at this number of bytes.
const BATCH_RECORDS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// The number of batches that may wait before a worker, and after it.
const DEPTH: usize = 2;

/// Reads the records of the files, lets `threads` workers examine them, and passes the results to `take` in the order
/// of the files. An error of a file or of `take` ends the processing. Returns how each file was read.
///
/// Batches are sent to the workers in turn, and results are received from them in the same turn. This keeps the order
/// without sorting, and limits the number of batches in progress.
pub(super) fn in_order<T: Send>(
    inputs: &[PathBuf],
    config: &ReadConfig,
    threads: usize,
    examine: impl Fn(Line) -> T + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<Vec<ReadAs>> {
    let examine = &examine;
    thread::scope(|scope| {
        let (mut to_workers, mut from_workers) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let (to_worker, at_worker) = sync_channel::<Batch<Raw>>(DEPTH);
            let (to_taker, at_taker) = sync_channel(DEPTH);
            scope.spawn(move || work(&at_worker, &to_taker, examine));
            to_workers.push(to_worker);
            from_workers.push(at_taker);
        }
        let feeder = scope.spawn(move || feed(inputs, config, &to_workers));
        // Results come in turn, so the first worker that closes its channel in its turn is the one after the last
        // batch.
        for from_worker in from_workers.iter().cycle() {
            let Ok(Batch { items, error }) = from_worker.recv() else { break };
            items.into_iter().try_for_each(&mut take)?;
            if let Some(error) = error {
                return Err(error);
            }
        }
        let files = feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let check = |Finished { read_as, map_check }: Finished| map_check().map(|()| read_as);
        files.into_iter().map(check).collect()
    })
}

/// A file that was read to its end.
struct Finished {
    read_as: ReadAs,
    /// Fails if a mapped column was in none of its records, all of which have been parsed.
    map_check: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// Some records, and the error that came after them, if any.
struct Batch<T> {
    items: Vec<T>,
    error: Option<Error>,
}

fn work<T>(batches: &Receiver<Batch<Raw>>, results: &SyncSender<Batch<T>>, examine: impl Fn(Line) -> T) {
    for Batch { items, error } in batches {
        let items = items.into_iter().map(|raw| examine(raw.parse())).collect();
        if results.send(Batch { items, error }).is_err() {
            return;
        }
    }
}

/// Sends the records of the files to the workers in turn. Ends early if the workers have closed their channels.
fn feed(inputs: &[PathBuf], config: &ReadConfig, workers: &[SyncSender<Batch<Raw>>]) -> Vec<Finished> {
    let mut finished = Vec::new();
    let mut workers = workers.iter().cycle();
    let mut send = |items, error| workers.next().is_some_and(|worker| worker.send(Batch { items, error }).is_ok());
    let (mut items, mut bytes) = (Vec::new(), 0);
    for input in inputs {
        let mut reader = match read_with(input, config) {
            Ok(reader) => reader,
            Err(error) => {
                send(items, Some(error));
                return finished;
            }
        };
        while let Some(raw) = reader.next_raw() {
            match raw {
                Ok(raw) => {
                    bytes += raw.size();
                    items.push(raw);
                }
                Err(error) => {
                    send(items, Some(error));
                    return finished;
                }
            }
            if items.len() == BATCH_RECORDS || bytes >= BATCH_BYTES {
                if !send(std::mem::take(&mut items), None) {
                    return finished;
                }
                bytes = 0;
            }
        }
        finished.push(Finished { read_as: reader.read_as(), map_check: Box::new(reader.map_check()) });
    }
    send(items, None);
    finished
}
