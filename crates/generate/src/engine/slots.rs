//! The sequences of an engine's cache: those of running requests, and those of earlier ones that may be of use again.

use foehn_mistral::KvCache;

use super::request::RequestId;
use super::running::Running;

/// The sequences of the cache, and who has them.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Slot>,
    /// The most tokens of all sequences together.
    budget: usize,
    /// Counts the requests that have begun.
    clock: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// The tokens of the sequence, where no request has it.
    ids: Vec<u32>,
    model: usize,
    /// The tokens for which the sequence may need room.
    reserved: usize,
    running: Option<Running>,
    /// The most tokens that the sequence has had since its memory was last freed.
    peak: usize,
    /// The clock when a request last began here.
    used: u64,
}

/// Where a request can begin.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    slot: usize,
    /// The sequence that shares the most of the prompt's beginning, and the number of tokens.
    shared: Option<(usize, usize)>,
}

/// Where a request begins.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub slot: usize,
    /// The number of tokens of its prompt that are in the cache.
    pub reused: usize,
}

/// A request waits for another one that is reading the same beginning, if that saves more tokens than this.
const WORTH_WAITING: usize = 32;

impl Slots {
    /// Places for `max_batch` requests, and for as many sequences that are kept for later.
    pub fn new(max_batch: usize, budget: usize) -> Self {
        let slots = (0..2 * max_batch).map(|_| Slot::default()).collect();
        Self { slots, budget, clock: 0 }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of running requests.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.running.is_some()).count()
    }

    pub fn each_running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.running.as_ref()?)))
    }

    pub fn running_at(&self, slot: usize) -> Option<&Running> {
        self.slots[slot].running.as_ref()
    }

    pub fn running_at_mut(&mut self, slot: usize) -> Option<&mut Running> {
        self.slots[slot].running.as_mut()
    }

    /// The slots of the running requests, in the order in which they were added.
    pub fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<(RequestId, usize)> =
            self.each_running().map(|(slot, running)| (running.id, slot)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Where a request can begin that may need room for `longest` tokens. `None` if it has to wait: for room, or since
    /// another request is reading the same beginning.
    pub fn place(&self, prompt: &[u32], model: usize, longest: usize, cache: &KvCache) -> Option<Plan> {
        let of_running: usize = self.slots.iter().filter(|slot| slot.running.is_some()).map(|slot| slot.reserved).sum();
        if of_running + longest > self.budget {
            return None;
        }
        // The last token of a prompt is never reused, because its logits are needed.
        let wanted = &prompt[..prompt.len() - 1];
        let of_model = self.slots.iter().enumerate().filter(|(_, slot)| slot.model == model);
        let shared = of_model
            .clone()
            .map(|(index, slot)| (index, common(wanted, &slot.ids()[..cache.lengths()[index]])))
            .filter(|(_, count)| *count > 0)
            // Of several, the first.
            .reduce(|best, other| if other.1 > best.1 { other } else { best });
        let count = shared.map_or(0, |(_, count)| count);
        let is_read_now = |(index, slot): (usize, &Slot)| {
            let held = cache.lengths()[index];
            let unread = slot.running.as_ref().is_some_and(|running| !running.unread(held).is_empty());
            unread && common(wanted, slot.ids()) > count + WORTH_WAITING
        };
        if of_model.into_iter().any(is_read_now) {
            return None;
        }
        let takes_over = |(index, count): (usize, usize)| {
            // A sequence of which little would be left is copied: it may be of use as it is, and its memory is for more.
            let Slot { running, peak, .. } = &self.slots[index];
            (running.is_none() && 2 * count >= *peak).then_some(index)
        };
        let slot = shared.and_then(takes_over).or_else(|| self.free(shared.map(|(index, _)| index)))?;
        Some(Plan { slot, shared })
    }

    /// The slot that was not used for longest, empty ones first, and `spared` only if there is no other.
    fn free(&self, spared: Option<usize>) -> Option<usize> {
        let free = (0..self.slots.len()).filter(|&index| self.slots[index].running.is_none());
        free.min_by_key(|&index| {
            let slot = &self.slots[index];
            (spared == Some(index), !slot.ids.is_empty(), slot.used)
        })
    }

    /// Prepares a place, and gives up sequences that are not in use until there is room. With `afresh`, nothing is reused.
    pub fn take(&mut self, plan: Plan, model: usize, longest: usize, afresh: bool, cache: &mut KvCache) -> Place {
        let Plan { slot, shared } = plan;
        let shared = shared.filter(|_| !afresh);
        let mut spared = shared.map(|(from, _)| from);
        self.slots[slot].reserved = longest;
        while self.slots.iter().map(|slot| slot.reserved).sum::<usize>() > self.budget {
            let idle = |&index: &usize| {
                let other = &self.slots[index];
                index != slot && other.running.is_none() && other.reserved > 0
            };
            let Some(index) =
                (0..self.slots.len()).filter(idle).min_by_key(|&index| (spared == Some(index), self.slots[index].used))
            else {
                break;
            };
            if spared == Some(index) {
                // Its beginning moves to the new place before it is given up.
                spared = None;
                self.free_memory(slot, model, cache);
                cache.copy(index, slot, shared.map_or(0, |(_, count)| count));
            }
            self.empty(index, cache);
        }
        match (shared, spared) {
            (Some((from, count)), Some(_)) if from == slot => {
                let lengths = cache.lengths().iter().enumerate();
                let lengths: Vec<usize> = lengths.map(|(at, &held)| if at == slot { count } else { held }).collect();
                cache.truncate(&lengths);
            }
            (Some((from, count)), Some(_)) => {
                self.free_memory(slot, model, cache);
                cache.copy(from, slot, count);
            }
            (Some(_), None) => {}
            (None, _) => self.free_memory(slot, model, cache),
        }
        self.slots[slot].model = model;
        Place { slot, reused: shared.map_or(0, |(_, count)| count) }
    }

    pub fn begin(&mut self, slot: usize, running: Running) {
        self.clock += 1;
        let slot = &mut self.slots[slot];
        slot.ids.clear();
        slot.used = self.clock;
        slot.running = Some(running);
    }

    /// Takes the slots of the requests that are over, and keeps their sequences.
    pub fn rest(&mut self, cache: &mut KvCache) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let Some(running) = slot.running.take_if(|running| running.is_over()) else { continue };
            if running.is_broken() {
                self.empty(index, cache);
                continue;
            }
            let held = cache.lengths()[index];
            slot.ids = running.ids()[..held].to_vec();
            slot.reserved = held;
            slot.peak = slot.peak.max(held);
        }
    }

    /// Ends a request, if it is running.
    pub fn cancel(&mut self, id: RequestId, cache: &mut KvCache) {
        let of_id = self.slots.iter_mut().filter_map(|slot| slot.running.as_mut()).find(|running| running.id == id);
        if let Some(running) = of_id {
            running.end();
            self.rest(cache);
        }
    }

    /// Empties all sequences of a model, and returns its running requests.
    pub fn forget(&mut self, model: usize, cache: &mut KvCache) -> Vec<RequestId> {
        let mut ended = Vec::new();
        for index in (0..self.slots.len()).filter(|&index| self.slots[index].model == model).collect::<Vec<_>>() {
            ended.extend(self.slots[index].running.take().map(|running| running.id));
            self.empty(index, cache);
        }
        ended
    }

    /// Empties a sequence for a request of `model`, so that what it had takes no memory beside what is counted now.
    fn free_memory(&mut self, index: usize, model: usize, cache: &mut KvCache) {
        cache.begin(index, model);
        self.slots[index].peak = 0;
    }

    fn empty(&mut self, index: usize, cache: &mut KvCache) {
        cache.begin(index, 0);
        self.slots[index] = Slot::default();
    }
}

impl Slot {
    /// All tokens of the sequence, also those that are not computed yet.
    fn ids(&self) -> &[u32] {
        self.running.as_ref().map_or(&self.ids, Running::ids)
    }
}

fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}
