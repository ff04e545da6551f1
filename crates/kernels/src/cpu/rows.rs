//! Kernels that treat each row by itself: normalisation, rotation, gating.

use super::number::{F16, Number};
use super::pool::{DisjointParts, parallel_chunks};
use super::simd::{LANES, Level, Simd, dispatch};

/// Elements per item of an elementwise kernel.
const ITEM: usize = 16 << 10;

/// The number of whole rows per item.
fn rows_an_item(width: usize) -> usize {
    (ITEM / width.max(1)).max(1)
}

/// Runs `$whole` at the start of every full vector of sixteen elements, and `$rest` for each element after the last
/// full vector.
macro_rules! lanes {
    ($len:expr, |$at:ident| $whole:expr, |$one:ident| $rest:expr) => {{
        let whole = $len / LANES * LANES;
        let mut $at = 0;
        while $at < whole {
            $whole;
            $at += LANES;
        }
        for $one in whole..$len {
            $rest;
        }
    }};
}

/// `y = x / sqrt(mean(x²) + eps) · weight` of each row.
///
/// # Panics
/// When the lengths do not fit together.
pub fn rms_norm(level: Level, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "rms_norm: output has another size");
    let width = weight.len();
    let rows = rows_an_item(width);
    parallel_chunks(y, rows * width, |item, y| {
        let x = &x[item * rows * width..][..y.len()];
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            rms_norm_row(level, x, weight, eps, y);
        }
    });
}

dispatch! {
    fn rms_norm_row(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = rms_norm_row_with
}

#[inline(always)]
fn rms_norm_row_with<S: Simd>(simd: S, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let inverse = inverse_rms(simd, x, eps);
    let scale = simd.splat(inverse);
    lanes!(
        x.len(),
        |at| simd.store(simd.mul(simd.mul(simd.load(&x[at..]), scale), simd.load(&weight[at..])), &mut y[at..]),
        |i| y[i] = x[i] * inverse * weight[i]
    );
}

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
fn inverse_rms<S: Simd>(simd: S, x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(simd, x, x) / x.len() as f32 + eps).sqrt()
}

dispatch! {
    /// The dot products of `x` with rows of the same length.
    pub fn dots(x: &[f32], rows: &[f32], to: &mut [f32]) = dots_with
}

dispatch! {
    /// As [`dots`], where the rows are in half precision.
    pub fn dots_half(x: &[f32], rows: &[F16], to: &mut [f32]) = dots_with
}

#[inline(always)]
fn dots_with<S: Simd, T: Number>(simd: S, x: &[f32], rows: &[T], to: &mut [f32]) {
    let mut rows = rows;
    let mut to = to;
    while to.len() >= 8 {
        dots_of::<S, T, 8>(simd, x, rows, to);
        (rows, to) = (&rows[8 * x.len()..], &mut to[8..]);
    }
    while to.len() >= 4 {
        dots_of::<S, T, 4>(simd, x, rows, to);
        (rows, to) = (&rows[4 * x.len()..], &mut to[4..]);
    }
    while !to.is_empty() {
        dots_of::<S, T, 1>(simd, x, rows, to);
        (rows, to) = (&rows[x.len()..], &mut to[1..]);
    }
}

/// `ROWS` sums at once. Each sum is a chain of dependent additions; the processor works on all chains in parallel.
#[inline(always)]
fn dots_of<S: Simd, T: Number, const ROWS: usize>(simd: S, x: &[f32], rows: &[T], to: &mut [f32]) {
    let rows = &rows[..ROWS * x.len()];
    let mut sums = [simd.splat(0.0); ROWS];
    let whole = x.len() / LANES * LANES;
    let mut at = 0;
    while at < whole {
        let loaded = simd.load(&x[at..]);
        for i in 0..ROWS {
            sums[i] = simd.fma(loaded, T::load(simd, &rows[i * x.len() + at..]), sums[i]);
        }
        at += LANES;
    }
    for i in 0..ROWS {
        let rest = x[whole..].iter().zip(&rows[i * x.len() + whole..]);
        to[i] = rest.fold(simd.sum(sums[i]), |sum, (a, b)| sum + a * b.to_f32());
    }
}

/// The dot product, summed in four independent chains.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [simd.splat(0.0); 4];
    let whole = a.len() / (4 * LANES) * (4 * LANES);
    for (a, b) in a[..whole].chunks_exact(4 * LANES).zip(b[..whole].chunks_exact(4 * LANES)) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = simd.fma(simd.load(&a[i * LANES..]), simd.load(&b[i * LANES..]), *sum);
        }
    }
    let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
    a[whole..].iter().zip(&b[whole..]).fold(simd.sum(sum), |sum, (a, b)| sum + a * b)
}

/// The gradient of [`rms_norm`] with respect to its input, added to `dx`: `dx += (dy·w − x·mean(dy·w·x)/rms²) / rms` of
/// each row.
///
/// # Panics
/// When the lengths do not fit together.
pub fn rms_norm_backward(level: Level, x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    assert_eq!((x.len(), dy.len()), (dx.len(), dx.len()), "rms_norm: gradients have another size");
    let width = weight.len();
    let rows = rows_an_item(width);
    parallel_chunks(dx, rows * width, |item, dx| {
        let start = item * rows * width;
        let (x, dy) = (&x[start..][..dx.len()], &dy[start..][..dx.len()]);
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            rms_norm_backward_row(level, x, weight, eps, dy, dx);
        }
    });
}

dispatch! {
    fn rms_norm_backward_row(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) =
        rms_norm_backward_row_with
}

#[inline(always)]
fn rms_norm_backward_row_with<S: Simd>(simd: S, x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let inverse = inverse_rms(simd, x, eps);
    let mut sum = simd.splat(0.0);
    let mut rest = 0.0;
    lanes!(
        x.len(),
        |at| sum = simd.fma(simd.mul(simd.load(&dy[at..]), simd.load(&weight[at..])), simd.load(&x[at..]), sum),
        |i| rest += dy[i] * weight[i] * x[i]
    );
    let along = (simd.sum(sum) + rest) / x.len() as f32 * inverse * inverse;
    let (scale, back) = (simd.splat(inverse), simd.splat(-along * inverse));
    lanes!(
        x.len(),
        |at| {
            let straight = simd.mul(simd.mul(simd.load(&dy[at..]), simd.load(&weight[at..])), scale);
            let sum = simd.add(simd.load(&dx[at..]), simd.fma(simd.load(&x[at..]), back, straight));
            simd.store(sum, &mut dx[at..]);
        },
        |i| dx[i] += dy[i] * weight[i] * inverse - x[i] * along * inverse
    );
}

/// `x += values` for each row of `x`.
///
/// # Panics
/// When the values are not as wide as the rows.
pub fn add_to_rows(level: Level, x: &mut [f32], values: &[f32]) {
    let width = values.len();
    assert!(x.len().is_multiple_of(width), "add_to_rows: rows are of another width");
    parallel_chunks(x, rows_an_item(width) * width, |_, x| {
        x.chunks_exact_mut(width).for_each(|row| add_scaled_run(level, row, values, 1.0));
    });
}

/// Rotates the heads of each row in place by the row's angles, in the half-split layout; with `back`, by the negative
/// angles.
///
/// `x` is `[rows, heads · head_dim]`, `cos` and `sin` are `[rows, head_dim / 2]`.
///
/// # Panics
/// When the lengths do not fit together.
pub fn rotate(level: Level, x: &mut [f32], cos: &[f32], sin: &[f32], half: usize, width: usize, back: bool) {
    assert_eq!(x.len() / width * half, cos.len(), "rotary: the tables were made for other rows");
    let rows = rows_an_item(width);
    parallel_chunks(x, rows * width, |item, x| {
        for (i, x) in x.chunks_exact_mut(width).enumerate() {
            let at = (item * rows + i) * half;
            rotate_row(level, x, &cos[at..at + half], &sin[at..at + half], back);
        }
    });
}

dispatch! {
    fn rotate_row(x: &mut [f32], cos: &[f32], sin: &[f32], back: bool) = rotate_row_with
}

#[inline(always)]
fn rotate_row_with<S: Simd>(simd: S, x: &mut [f32], cos: &[f32], sin: &[f32], back: bool) {
    let half = cos.len();
    let sign = if back { -1.0 } else { 1.0 };
    for head in x.chunks_exact_mut(2 * half) {
        let (first, second) = head.split_at_mut(half);
        lanes!(
            half,
            |at| {
                let (a, b) = (simd.load(&first[at..]), simd.load(&second[at..]));
                let (c, s) = (simd.load(&cos[at..]), simd.mul(simd.splat(sign), simd.load(&sin[at..])));
                simd.store(simd.sub(simd.mul(a, c), simd.mul(b, s)), &mut first[at..]);
                simd.store(simd.add(simd.mul(b, c), simd.mul(a, s)), &mut second[at..]);
            },
            |i| {
                let (a, b, c, s) = (first[i], second[i], cos[i], sign * sin[i]);
                first[i] = a * c - b * s;
                second[i] = b * c + a * s;
            }
        );
    }
}

/// `y = silu(gate) · up`.
///
/// # Panics
/// When the lengths differ.
pub fn swiglu(level: Level, gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert_eq!((gate.len(), up.len()), (y.len(), y.len()), "swiglu: sizes differ");
    parallel_chunks(y, ITEM, |item, y| {
        let start = item * ITEM;
        swiglu_run(level, &gate[start..][..y.len()], &up[start..][..y.len()], y);
    });
}

dispatch! {
    fn swiglu_run(gate: &[f32], up: &[f32], y: &mut [f32]) = swiglu_run_with
}

#[inline(always)]
fn swiglu_run_with<S: Simd>(simd: S, gate: &[f32], up: &[f32], y: &mut [f32]) {
    lanes!(
        y.len(),
        |at| {
            let gate = simd.load(&gate[at..]);
            simd.store(simd.mul(simd.mul(gate, sigmoid(simd, gate)), simd.load(&up[at..])), &mut y[at..]);
        },
        |i| y[i] = gate[i] * up[i] / (1.0 + (-gate[i]).exp())
    );
}

#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::V) -> S::V {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, simd.exp(simd.sub(simd.splat(0.0), x))))
}

/// The gradients of [`swiglu`], written over its inputs: `gate` becomes the gradient of the gate, `up` that of `up`.
///
/// # Panics
/// When the lengths differ.
pub fn swiglu_backward(level: Level, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    assert_eq!((gate.len(), up.len()), (dy.len(), dy.len()), "swiglu: sizes differ");
    let up = DisjointParts::new(up);
    parallel_chunks(gate, ITEM, |item, gate| {
        let start = item * ITEM;
        // SAFETY: item `item` takes the elements `start..start + gate.len()` of `up`, the same range as its chunk of
        // `gate`. These ranges do not overlap, and each item runs once, so no other thread accesses this range.
        let up = unsafe { up.part(start, gate.len()) };
        swiglu_backward_run(level, gate, up, &dy[start..][..gate.len()]);
    });
}

dispatch! {
    fn swiglu_backward_run(gate: &mut [f32], up: &mut [f32], dy: &[f32]) = swiglu_backward_run_with
}

#[inline(always)]
fn swiglu_backward_run_with<S: Simd>(simd: S, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let one = simd.splat(1.0);
    lanes!(
        dy.len(),
        |at| {
            let (g, u, dy) = (simd.load(&gate[at..]), simd.load(&up[at..]), simd.load(&dy[at..]));
            let s = sigmoid(simd, g);
            // silu' = s · (1 + g · (1 − s))
            let slope = simd.mul(s, simd.fma(g, simd.sub(one, s), one));
            simd.store(simd.mul(simd.mul(dy, u), slope), &mut gate[at..]);
            simd.store(simd.mul(simd.mul(dy, g), s), &mut up[at..]);
        },
        |i| {
            let (g, u, dy) = (gate[i], up[i], dy[i]);
            let s = 1.0 / (1.0 + (-g).exp());
            gate[i] = dy * u * s * (1.0 + g * (1.0 - s));
            up[i] = dy * g * s;
        }
    );
}

/// `to += from · factor`.
///
/// # Panics
/// When the lengths differ.
pub fn add_scaled(level: Level, to: &mut [f32], from: &[f32], factor: f32) {
    assert_eq!(to.len(), from.len(), "add_scaled: sizes differ");
    parallel_chunks(to, ITEM, |item, to| add_scaled_run(level, to, &from[item * ITEM..][..to.len()], factor));
}

dispatch! {
    fn add_scaled_run(to: &mut [f32], from: &[f32], factor: f32) = add_scaled_run_with
}

#[inline(always)]
fn add_scaled_run_with<S: Simd>(simd: S, to: &mut [f32], from: &[f32], factor: f32) {
    lanes!(
        to.len(),
        |at| simd.store(simd.fma(simd.load(&from[at..]), simd.splat(factor), simd.load(&to[at..])), &mut to[at..]),
        |i| to[i] += from[i] * factor
    );
}
