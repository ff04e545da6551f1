//! A model of the process's heap: what is live, for which part, and how far the heap has grown.

use std::collections::{BTreeMap, BTreeSet};

use super::Part;

/// Buffers that `foehn-kernels` keeps for reuse (`cpu/buffer.rs`, `KEPT`).
const KEPT: usize = 256;

/// The heap of a process that never returns memory to the system (`foehn_kernels::keep_freed_memory`).
///
/// As in glibc's `malloc`: an allocation takes the smallest free range that is large enough and leaves the rest of it
/// free; neighbouring free ranges are joined; if nothing fits, the heap grows.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// Free ranges below `top`: address to length.
    free: BTreeMap<usize, usize>,
    /// The same ranges, by length.
    by_len: BTreeSet<(usize, usize)>,
    /// Freed buffers that the kernels keep, oldest first.
    kept: Vec<Block>,
    top: usize,
    highest: usize,
    live: [usize; Part::COUNT],
    at_highest: [usize; Part::COUNT],
}

/// An allocation.
#[derive(Debug)]
#[must_use = "a block that is not given back stays allocated"]
pub(super) struct Block {
    address: usize,
    len: usize,
    part: Part,
}

/// A buffer of the kernels: on release it goes to the kept buffers.
#[derive(Debug)]
#[must_use = "a buffer that is not given back stays allocated"]
pub(super) struct Buffer(Option<Block>);

impl Heap {
    /// Allocates `len` bytes.
    pub fn take(&mut self, part: Part, len: usize) -> Block {
        if len == 0 {
            return Block { address: 0, len, part };
        }
        self.live[part as usize] += len;
        let found = self.by_len.range((len, 0)..).next().copied();
        let address = match found {
            Some((free, address)) => {
                self.remove(address, free);
                if free > len {
                    self.insert(address + len, free - len);
                }
                address
            }
            // The free range at the end of the heap would be extended.
            None => {
                let last = self.free.last_key_value().map(|(&address, &free)| (address, free));
                let address = match last.filter(|(address, free)| address + free == self.top) {
                    Some((address, free)) => {
                        self.remove(address, free);
                        address
                    }
                    None => self.top,
                };
                self.top = address + len;
                address
            }
        };
        if self.top > self.highest {
            self.highest = self.top;
            self.at_highest = self.live;
        }
        Block { address, len, part }
    }

    /// Frees a block.
    pub fn give(&mut self, block: Block) {
        let Block { address, len, part } = block;
        if len == 0 {
            return;
        }
        self.live[part as usize] -= len;
        let (mut start, mut end) = (address, address + len);
        if let Some((&before, &free)) = self.free.range(..address).next_back()
            && before + free == start
        {
            self.remove(before, free);
            start = before;
        }
        if let Some(&free) = self.free.get(&end) {
            self.remove(end, free);
            end += free;
        }
        self.insert(start, end - start);
    }

    /// Takes a buffer of `len` numbers: a kept one if one fits, as `Buffer::new` of the kernels.
    pub fn buffer(&mut self, part: Part, len: usize) -> Buffer {
        let len = 4 * len;
        if len == 0 {
            return Buffer(None);
        }
        let fits = |block: &Block| block.len >= len && block.len / 8 * 7 <= len;
        let best = (0..self.kept.len()).filter(|&i| fits(&self.kept[i])).min_by_key(|&i| self.kept[i].len);
        Buffer(Some(match best {
            Some(i) => {
                let block = self.kept.swap_remove(i);
                self.live[block.part as usize] -= block.len;
                self.live[part as usize] += block.len;
                Block { part, ..block }
            }
            None => self.take(part, len),
        }))
    }

    /// Releases a buffer.
    pub fn keep(&mut self, buffer: Buffer) {
        let Some(block) = buffer.0 else { return };
        if self.kept.len() == KEPT {
            let oldest = self.kept.remove(0);
            self.give(oldest);
        }
        self.live[block.part as usize] -= block.len;
        self.live[Part::Scratch as usize] += block.len;
        self.kept.push(Block { part: Part::Scratch, ..block });
    }

    /// The largest extent so far: for each part what was live then. What was free counts as scratch.
    pub fn peak(&self) -> [usize; Part::COUNT] {
        let mut parts = self.at_highest;
        parts[Part::Scratch as usize] += self.highest - parts.iter().sum::<usize>();
        parts
    }

    fn insert(&mut self, address: usize, len: usize) {
        self.free.insert(address, len);
        self.by_len.insert((len, address));
    }

    fn remove(&mut self, address: usize, len: usize) {
        self.free.remove(&address);
        self.by_len.remove(&(len, address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(heap: &Heap) -> usize {
        heap.peak().iter().sum()
    }

    #[test]
    fn freed_memory_is_joined_and_taken_again() {
        let mut heap = Heap::default();
        let [a, b, c] = [100, 200, 300].map(|len| heap.take(Part::Base, len));
        heap.give(a);
        heap.give(b);
        // The two free ranges are one of 300 now.
        let d = heap.take(Part::Adapter, 300);
        assert_eq!((d.address, total(&heap)), (0, 600));
        heap.give(c);
        let e = heap.take(Part::Adapter, 400);
        assert_eq!((e.address, total(&heap)), (300, 700), "the free end of the heap is extended");
    }

    #[test]
    fn the_smallest_range_that_fits_is_taken() {
        let mut heap = Heap::default();
        let blocks = [500, 1, 100, 1, 300, 1].map(|len| heap.take(Part::Base, len));
        for (i, block) in blocks.into_iter().enumerate() {
            if i % 2 == 0 {
                heap.give(block);
            }
        }
        assert_eq!(heap.take(Part::Base, 90).address, 501);
        assert_eq!(heap.take(Part::Base, 290).address, 602);
        assert_eq!(heap.take(Part::Base, 290).address, 0);
    }

    #[test]
    fn kept_buffers_are_reused_and_the_oldest_is_freed() {
        let mut heap = Heap::default();
        let first = heap.buffer(Part::Activations, 1000);
        heap.keep(first);
        assert_eq!(heap.peak()[Part::Activations as usize], 4000);
        // 900 numbers fit in 1000, 800 would waste too much.
        let again = heap.buffer(Part::Activations, 900);
        assert_eq!(total(&heap), 4000);
        heap.keep(again);
        let smaller = heap.buffer(Part::Activations, 800);
        assert_eq!(total(&heap), 7200);
        heap.keep(smaller);
        let others: Vec<Buffer> = (1..=KEPT).map(|i| heap.buffer(Part::Activations, 10_000 * 2 * i)).collect();
        let before = total(&heap);
        others.into_iter().for_each(|buffer| heap.keep(buffer));
        let block = heap.take(Part::Base, 7200);
        assert_eq!((block.address, total(&heap)), (0, before), "the two oldest were freed");
    }
}
