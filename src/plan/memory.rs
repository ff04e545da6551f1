//! The memory of a run: its allocations, replayed on a model of the heap.

use foehn_finetune::TrainingConfig;
use foehn_mistral::MatrixSize;

use super::heap::{Block, Heap};
use super::step::Replay;
use super::work::Work;
use super::{Network, Outline, Part, Pass, PlanError, PlannedMemory};

/// Steps that are replayed before the largest one: the buffers that they leave behind fit later ones less well.
const BEFORE: usize = 2;

/// Replays loading, the first steps, the largest step twice, and what a checkpoint copies.
pub(super) fn predict(
    outline: &Outline<'_>,
    network: &Network,
    work: &Work,
    settings: &TrainingConfig,
) -> Result<PlannedMemory, PlanError> {
    let mut heap = Heap::default();
    let mut base = Vec::new();
    for size in &network.matrices {
        base.push(load(&mut heap, size, outline.checkpoint.is_some())?);
    }
    let lens = network.adapter_lens();
    // `Adapter::new` makes the values, `attach_trainable` copies them.
    let mut adapter = |part| -> Vec<Block> { lens.iter().map(|len| heap.take(part, 4 * len)).collect() };
    let (made, mut parameters) = (adapter(Part::Adapter), adapter(Part::Adapter));
    let zeros = |len: &usize| [0, 1].map(|_| heap.take(Part::Moments, 4 * len));
    let mut moments: Vec<[Block; 2]> = lens.iter().map(zeros).collect();
    made.into_iter().for_each(|block| heap.give(block));
    // The best adapter so far, where one is kept.
    if settings.validation.patience > 0 && outline.validation.is_some() {
        base.extend(lens.iter().map(|len| heap.take(Part::Adapter, 4 * len)));
    }
    let (recompute, dropout) = (settings.recompute, settings.lora.lora_dropout > 0.0);
    let mut replay = Replay { heap, network, recompute, dropout, gradients: Vec::new() };
    for step in replayed(work) {
        step.iter().for_each(|pass| replay.micro_batch(pass));
        replay.optimizer(&mut parameters, &mut moments, &lens);
    }
    let Replay { mut heap, .. } = replay;
    if outline.saves {
        // `Trainer::checkpoint`: the adapter's values and both moments.
        for part in [Part::Adapter, Part::Moments, Part::Moments] {
            base.extend(lens.iter().map(|len| heap.take(part, 4 * len)));
        }
    }
    let mut parts = heap.peak();
    parts[Part::Program as usize] += outline.program;
    let parts: Vec<(Part, usize)> = Part::ALL.into_iter().zip(parts).collect();
    Ok(PlannedMemory { peak: parts.iter().map(|part| part.1).sum(), parts })
}

/// Makes one matrix as `Mistral::load_as` does, or `Mistral::synthetic`. Returns its block.
fn load(heap: &mut Heap, size: &MatrixSize, is_read: bool) -> Result<Block, PlanError> {
    let elements: usize = size.dims.iter().product();
    let in_file = elements / size.stored.block_elements().max(1) * size.stored.block_bytes();
    let packed = size.storage.bytes(size.dims).ok_or_else(|| PlanError::Device { device: "of this build".into() })?;
    let is_full = size.storage == foehn_kernels::Storage::Full;
    // A checkpoint's bytes are read, and converted to single precision where the format is another one. Synthetic
    // weights are made row by row, except those in single precision.
    let bytes = heap.take(Part::Scratch, if is_read { in_file } else { 0 });
    let is_converted = if is_read { size.is_converted } else { is_full };
    let values = heap.take(Part::Scratch, if is_converted { 4 * elements } else { 0 });
    if is_converted {
        heap.give(bytes);
        let block = heap.take(Part::Base, packed);
        heap.give(values);
        return Ok(block);
    }
    let block = heap.take(Part::Base, packed);
    heap.give(bytes);
    Ok(block)
}

/// The first steps, and the one with the largest micro-batch twice.
fn replayed(work: &Work) -> Vec<&Vec<Pass>> {
    let cost = |step: &&Vec<Pass>| step.iter().map(|pass| (pass.rows, pass.targets)).max();
    let largest = work.steps.iter().max_by_key(cost);
    let times = 2.min(work.total);
    work.steps.iter().take(BEFORE).chain(std::iter::repeat_n(largest, times).flatten()).collect()
}
