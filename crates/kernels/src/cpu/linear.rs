//! Frozen projections of one input, each with or without a low-rank adapter.

use super::buffer::Buffer;
use super::few::Halves;
use super::matrix::{Left, Matrix, PackedMatrix};
use super::pool::parallel_chunks;
use super::product::{Backward, Forward, Operand, Single, backward, forward, forward_in_runs, over_rows};
use super::rows::{add_scaled, add_to_rows, dots};
use super::simd::Level;

/// `y = x·Wᵀ + scale·(mask∘x)·Aᵀ·Bᵀ + bias`.
#[derive(Clone, Copy)]
pub struct LinearView<'a> {
    pub weight: &'a Matrix,
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    pub adapter: Option<AdapterView<'a>>,
}

/// A frozen projection without its adapter, `y = x·Wᵀ + bias`.
#[derive(Clone, Copy)]
pub struct BaseView<'a> {
    pub weight: &'a Matrix,
    /// `[out]`
    pub bias: Option<&'a [f32]>,
}

/// Consecutive rows that have the same adapters, one for each of some projections.
#[derive(Clone, Copy)]
pub struct Span<'a, const N: usize> {
    /// The number of rows.
    pub rows: usize,
    pub adapters: [Option<AdapterView<'a>>; N],
}

/// Projections of one input whose rows may have different adapters.
#[derive(Clone, Copy)]
pub struct Projections<'a, const N: usize> {
    pub bases: [BaseView<'a>; N],
    /// All rows, in order.
    pub spans: &'a [Span<'a, N>],
}

/// The two matrices of a low-rank adapter.
#[derive(Clone, Copy)]
pub struct AdapterView<'a> {
    /// `[r, in]`
    pub a: &'a [f32],
    /// `[out, r]`
    pub b: &'a [f32],
    /// A and B in half precision. The path for few rows uses them in place of `a` and `b` when the result need not be
    /// exact.
    pub halves: Option<&'a Halves>,
    pub r: usize,
    pub scale: f32,
    /// The dropout mask: the factor for the input's element with this index, in the adapter's path only.
    pub mask: Option<&'a (dyn Fn(usize) -> f32 + Sync)>,
}

/// The low-rank value of an adapter for its input, `scale·(mask∘x)·Aᵀ`, `[rows, r]`; `None` where there is no adapter.
pub type Low = Option<Vec<f32>>;

/// The gradients of an adapter's A and B; `None` where there is no adapter.
pub type Gradients = Option<[Vec<f32>; 2]>;

/// Computes all projections of `x` (`[rows, in]`). Each is written to its output `[rows, out]`, or added to it where
/// `add` is set.
///
/// # Panics
/// When the lengths do not fit together.
pub fn project<O: Operand, const N: usize>(
    level: Level,
    operand: O,
    x: &[f32],
    rows: usize,
    linears: [LinearView<'_>; N],
    outs: [&mut [f32]; N],
    add: bool,
) -> [Low; N] {
    let width = linears[0].weight.input();
    let left = rows_of(level, operand, x, rows, width);
    let lows = lows(level, operand, x, &left, linears);
    for ((linear, out), low) in linears.iter().zip(outs).zip(&lows) {
        let base = Forward { x: &left, weight: linear.weight };
        match (linear.adapter, low) {
            (Some(adapter), Some(low)) => {
                let low = rows_of(level, operand, low, rows, adapter.r);
                let b = matrix(level, adapter.b, linear.weight.out(), adapter.r);
                forward(level, operand, &[base, Forward { x: &low, weight: &b }], out, add);
            }
            _ => forward(level, operand, &[base], out, add),
        }
        linear.base().add_bias(level, out);
    }
    lows
}

/// As [`project_few`](super::few::project_few) in single precision, but faster for many rows. The bits of the result
/// are the same, so a row's result does not depend on the number of rows. With another operand, the products with the
/// bases round as it does, and a row's result does not depend on the number of rows either.
///
/// # Panics
/// When the lengths do not fit together.
pub fn project_many<O: Operand, const N: usize>(
    level: Level,
    operand: O,
    x: &[f32],
    projections: Projections<'_, N>,
    outs: [&mut [f32]; N],
    add: bool,
) {
    let Projections { bases, spans } = projections;
    let width = bases[0].weight.input();
    let rows = x.len() / width;
    let left = rows_of(level, operand, x, rows, width);
    for (at, (base, out)) in bases.iter().zip(outs).enumerate() {
        // With `add`, the whole sum is computed first and then added to `out`, as `project_few` does.
        let mut room = Buffer::new(if add { out.len() } else { 0 });
        let sum = if add { &mut room[..] } else { &mut out[..] };
        forward_in_runs(level, operand, &[Forward { x: &left, weight: base.weight }], sum, false, O::RUN);
        let (mut x, mut sum) = (x, sum);
        for span in spans {
            let (of_span, sum_of_span);
            (of_span, x) = x.split_at(span.rows * width);
            (sum_of_span, sum) = sum.split_at_mut(span.rows * base.weight.out());
            if let Some(adapter) = &span.adapters[at] {
                add_adapter(level, of_span, span.rows, adapter, sum_of_span);
            }
        }
        if add {
            add_scaled(level, out, &room, 1.0);
        }
        base.add_bias(level, out);
    }
}

/// Adds the adapter's part to `sum`, `[rows, out]`.
fn add_adapter(level: Level, x: &[f32], rows: usize, adapter: &AdapterView<'_>, sum: &mut [f32]) {
    if rows == 0 {
        return;
    }
    let (width, out) = (x.len() / rows, sum.len() / rows);
    let mut low = Buffer::new(rows * adapter.r);
    parallel_chunks(&mut low, adapter.r, |row, low| {
        dots(level, &x[row * width..][..width], adapter.a, low);
        low.iter_mut().for_each(|low| *low *= adapter.scale);
    });
    let low = rows_of(level, Single, &low, rows, adapter.r);
    let b = matrix(level, adapter.b, out, adapter.r);
    forward_in_runs(level, Single, &[Forward { x: &low, weight: &b }], sum, true, adapter.r.max(1));
}

impl<'a> LinearView<'a> {
    pub fn base(&self) -> BaseView<'a> {
        BaseView { weight: self.weight, bias: self.bias }
    }

    /// Some projections, and the one span of all rows of their input.
    pub fn split<const N: usize>(linears: [Self; N], rows: usize) -> ([BaseView<'a>; N], [Span<'a, N>; 1]) {
        let adapters = linears.map(|linear| linear.adapter);
        (linears.map(|linear| linear.base()), [Span { rows, adapters }])
    }
}

impl BaseView<'_> {
    /// Adds the bias to each row of `out`, `[rows, out]`.
    pub fn add_bias(&self, level: Level, out: &mut [f32]) {
        if let Some(bias) = self.bias {
            add_to_rows(level, out, bias);
        }
    }
}

fn rows_of<O: Operand>(level: Level, operand: O, x: &[f32], rows: usize, width: usize) -> Left<O> {
    assert_eq!(x.len(), rows * width, "projection: input is not [rows, in]");
    Left::new(level, operand, rows, width, |row| &x[row * width..][..width])
}

fn matrix(level: Level, rows: &[f32], out: usize, input: usize) -> Matrix {
    PackedMatrix::new(level, Single, rows, out, input, input).into()
}

/// The low-rank values of all adapters. Adapters without a mask see the same input and are computed as one matrix.
fn lows<O: Operand, const N: usize>(
    level: Level,
    operand: O,
    x: &[f32],
    left: &Left<O>,
    linears: [LinearView<'_>; N],
) -> [Low; N] {
    let (rows, width) = (left.rows(), left.depth());
    let shared: Vec<AdapterView<'_>> =
        linears.iter().filter_map(|linear| linear.adapter).filter(|adapter| adapter.mask.is_none()).collect();
    let total: usize = shared.iter().map(|adapter| adapter.r).sum();
    let mut together = vec![0.0; rows * total];
    if total > 0 {
        let a: Vec<f32> = shared.iter().flat_map(|adapter| adapter.a).copied().collect();
        let a = matrix(level, &a, total, width);
        forward(level, operand, &[Forward { x: left, weight: &a }], &mut together, false);
    }
    let mut at = 0;
    linears.map(|linear| {
        let adapter = linear.adapter?;
        let mut low = vec![0.0; rows * adapter.r];
        if let Some(mask) = adapter.mask {
            let masked = rows_of(level, operand, &masked(x, mask), rows, width);
            let a = matrix(level, adapter.a, adapter.r, width);
            forward(level, operand, &[Forward { x: &masked, weight: &a }], &mut low, false);
            low.iter_mut().for_each(|low| *low *= adapter.scale);
        } else {
            for (low, together) in low.chunks_exact_mut(adapter.r).zip(together.chunks_exact(total)) {
                let own = &together[at..at + adapter.r];
                low.iter_mut().zip(own).for_each(|(low, own)| *low = own * adapter.scale);
            }
            at += adapter.r;
        }
        Some(low)
    })
}

fn masked(x: &[f32], mask: &(dyn Fn(usize) -> f32 + Sync)) -> Buffer {
    const ITEM: usize = 16 << 10;
    let mut masked = Buffer::new(x.len());
    masked.copy_from_slice(x);
    parallel_chunks(&mut masked, ITEM, |item, run| {
        run.iter_mut().enumerate().for_each(|(i, x)| *x *= mask(item * ITEM + i));
    });
    masked
}

/// The gradients of [`project`]: those of the adapters' matrices and, where `dx` is given, that of `x`, which
/// overwrites `dx`.
///
/// # Panics
/// When the lengths do not fit together.
#[allow(clippy::too_many_arguments)]
pub fn project_backward<O: Operand, const N: usize>(
    level: Level,
    operand: O,
    x: &[f32],
    rows: usize,
    linears: [LinearView<'_>; N],
    lows: &[Low; N],
    dys: [&[f32]; N],
    dx: Option<&mut [f32]>,
) -> [Gradients; N] {
    let width = linears[0].weight.input();
    let mut at = 0;
    let parts = linears.map(|linear| {
        at += 1;
        Part::new(level, operand, x, rows, linear, lows[at - 1].as_deref(), dys[at - 1])
    });
    if let Some(dx) = dx {
        let mut terms = Vec::with_capacity(2 * N);
        for (linear, part) in linears.iter().zip(&parts) {
            terms.push(Backward { dy: &part.dy, weight: linear.weight });
            if let (Some(low), None) = (&part.low, linear.adapter.and_then(|adapter| adapter.mask)) {
                terms.push(Backward { dy: &low.dy, weight: &low.a });
            }
        }
        backward(level, operand, &terms, dx, false);
        for (linear, part) in linears.iter().zip(&parts) {
            if let (Some(low), Some(mask)) = (&part.low, linear.adapter.and_then(|adapter| adapter.mask)) {
                let mut path = Buffer::new(rows * width);
                backward(level, operand, &[Backward { dy: &low.dy, weight: &low.a }], &mut path, false);
                add_scaled(level, dx, &masked(&path, mask), 1.0);
            }
        }
    }
    parts.map(|part| part.low.map(|low| low.gradients))
}

/// One projection's share of the backward pass.
struct Part<O> {
    dy: PackedMatrix<O>,
    low: Option<LowPart<O>>,
}

struct LowPart<O> {
    /// The gradient of `(mask∘x)·Aᵀ`.
    dy: PackedMatrix<O>,
    a: Matrix,
    gradients: [Vec<f32>; 2],
}

impl<O: Operand> Part<O> {
    fn new(
        level: Level,
        operand: O,
        x: &[f32],
        rows: usize,
        linear: LinearView<'_>,
        low: Option<&[f32]>,
        dy: &[f32],
    ) -> Self {
        let (out, width) = (linear.weight.out(), linear.weight.input());
        let packed = PackedMatrix::new(level, operand, dy, rows, out, out);
        let low = linear.adapter.zip(low).map(|(adapter, low)| {
            let r = adapter.r;
            let b = matrix(level, adapter.b, out, r);
            let mut d_low = vec![0.0; rows * r];
            backward(level, operand, &[Backward { dy: &packed, weight: &b }], &mut d_low, false);
            d_low.iter_mut().for_each(|d_low| *d_low *= adapter.scale);
            let mut d_a = vec![0.0; r * width];
            let masked = adapter.mask.map(|mask| masked(x, mask));
            over_rows(level, &turned(level, &d_low, rows, r), masked.as_deref().unwrap_or(x), width, false, &mut d_a);
            let mut d_b = vec![0.0; out * r];
            over_rows(level, &turned(level, low, rows, r), dy, out, true, &mut d_b);
            LowPart {
                dy: PackedMatrix::new(level, operand, &d_low, rows, r, r),
                a: matrix(level, adapter.a, r, width),
                gradients: [d_a, d_b],
            }
        });
        Self { dy: packed, low }
    }
}

/// `[rows, r]` transposed, as the left side of [`over_rows`].
fn turned(level: Level, low: &[f32], rows: usize, r: usize) -> Left {
    let mut columns = vec![0.0; r * rows];
    for (row, low) in low.chunks_exact(r).enumerate() {
        for (i, &value) in low.iter().enumerate() {
            columns[i * rows + row] = value;
        }
    }
    Left::new(level, Single, r, rows, |i| &columns[i * rows..][..rows])
}
