//! Buffers that are reused.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// A buffer whose first values are arbitrary: zeros, or what its last user left. A kernel must write an element before
/// it reads it.
///
/// A training step takes thousands of buffers of a few sizes. Clearing each one would cost a twentieth of the step.
/// Returning each one to the system, which clears it too, would cost more.
#[derive(Debug)]
pub struct Buffer(Vec<f32>);

/// Buffers that are free for reuse.
static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// The largest number of free buffers that are kept.
const KEPT: usize = 256;

impl Buffer {
    /// A buffer of `len` numbers with arbitrary values.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self(Vec::new());
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<f32>| buffer.capacity() >= len && buffer.capacity() / 8 * 7 <= len;
        let best = (0..free.len()).filter(|&i| fits(&free[i])).min_by_key(|&i| free[i].capacity());
        let mut buffer = match best {
            Some(i) => free.swap_remove(i),
            None => {
                drop(free);
                return Self(vec![0.0; len]);
            }
        };
        drop(free);
        buffer.resize(len, 0.0);
        Self(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() == 0 {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() == KEPT {
            free.remove(0);
        }
        free.push(std::mem::take(&mut self.0));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_that_was_asked_for() {
        for len in [0, 1, 7, 1000, 999, 1001, 500, 2000, 3] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.len(), len);
            buffer.fill(f32::NAN);
        }
    }
}
