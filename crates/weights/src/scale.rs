//! The scales of eight-bit floats, which are in a tensor of their own.

/// Ends the name of a scale; before it is the name of the tensor to be multiplied.
pub(crate) const SUFFIX: &str = "_scale_inv";
/// Ends the name of the scale of the activations that meet a weight. With activations in more than eight bits it has no
/// use.
pub(crate) const OF_ACTIVATIONS: &str = ".activation_scale";

/// The scales of one tensor: one, or one for each block of a matrix.
#[derive(Debug)]
pub(crate) struct Scales {
    /// `[block rows][block columns]`
    values: Vec<f32>,
    columns: usize,
    /// The length of a row of the matrix.
    width: usize,
    block: [usize; 2],
}

impl Scales {
    /// Scales of the shape `found` for a tensor of the given shape; `None` where they do not fit.
    ///
    /// The sides of a block follow from the shapes: powers of two, of which only one gives a number of blocks above one.
    pub fn new(values: Vec<f32>, found: &[usize], shape: &[usize]) -> Option<Self> {
        if values.len() == 1 && found.len() <= 1 {
            let all = shape.iter().product::<usize>().max(1);
            return Some(Self { values, columns: 1, width: all, block: [1, all] });
        }
        let (&[rows, columns], &[out, width]) = (found, shape) else { return None };
        let block = [side(out, rows)?, side(width, columns)?];
        Some(Self { values, columns, width, block })
    }

    /// Multiplies elements of the tensor, which begin at the given index, by their scales.
    pub fn multiply(&self, first: usize, values: &mut [f32]) {
        let mut at = first;
        let mut rest = values;
        while !rest.is_empty() {
            let (row, column) = (at / self.width, at % self.width);
            let end = (column / self.block[1] + 1).saturating_mul(self.block[1]).min(self.width);
            let scale = self.values[row / self.block[0] * self.columns + column / self.block[1]];
            let (run, others) = rest.split_at_mut((end - column).min(rest.len()));
            run.iter_mut().for_each(|value| *value *= scale);
            (at, rest) = (at + run.len(), others);
        }
    }
}

/// The side of a block, where `length` elements are that many blocks and the last may be shorter.
fn side(length: usize, blocks: usize) -> Option<usize> {
    let mut sides = (0..usize::BITS).map(|power| 1usize << power);
    let side = sides.find(|side| length.div_ceil(*side) <= blocks)?;
    (length > 0 && length.div_ceil(side) == blocks).then_some(side)
}
