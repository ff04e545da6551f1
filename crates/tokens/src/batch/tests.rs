//! Packing changes how the model computes, not what it predicts.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Error;

/// The predictions of a sample: given this path, predict this token.
type Predictions = BTreeMap<(Vec<u32>, u32), u32>;

fn predictions_one_by_one(samples: &[Sample]) -> Predictions {
    let mut predictions = Predictions::new();
    for sample in samples {
        for (at, masked) in sample.loss_mask().iter().enumerate() {
            if *masked {
                let path = sample.input_ids()[..at].to_vec();
                *predictions.entry((path, sample.input_ids()[at])).or_default() += 1;
            }
        }
    }
    predictions
}

/// The rows from the root to a row, computed from the segments alone.
fn path(batch: &Batch, row: usize) -> Vec<usize> {
    let holds = |segment: &&Segment| (segment.start..segment.start + segment.len).contains(&row);
    let mut segment = *batch.segments().iter().find(holds).unwrap();
    let mut path: Vec<usize> = (segment.start..=row).collect();
    while let Some(parent) = segment.parent {
        segment = batch.segments()[parent];
        path.splice(0..0, segment.start..segment.start + segment.len);
    }
    path
}

fn predictions(batch: &Batch) -> Predictions {
    let mut predictions = Predictions::new();
    for target in batch.targets() {
        let ids = path(batch, target.row as usize).into_iter().map(|row| batch.input_ids()[row]).collect();
        let previous = predictions.insert((ids, target.id), target.weight as u32);
        assert_eq!(previous, None, "a prediction is one target");
    }
    predictions
}

fn check(batch: &Batch, samples: &[Sample]) {
    let rows = batch.rows();
    assert_eq!(batch.position_ids().len(), rows);
    assert_eq!(batch.segments().iter().map(|segment| segment.len).sum::<usize>(), rows);
    for row in 0..rows {
        let path = path(batch, row);
        assert_eq!(batch.position_ids()[row] as usize, path.len() - 1, "positions count along the path");
        let visible: Vec<usize> = (0..rows).filter(|r| *r <= row && row < batch.subtree_ends()[*r] as usize).collect();
        assert_eq!(visible, path, "row {row} sees its ancestors and itself");
    }
    let total: usize = samples.iter().map(Sample::supervised).sum();
    assert_eq!(batch.supervised() as usize, total);
    for (index, sample) in samples.iter().enumerate() {
        let mine: Vec<(u32, u32)> = batch
            .targets_of(index)
            .iter()
            .map(|target| batch.targets()[*target as usize])
            .map(|target| (batch.position_ids()[target.row as usize] + 1, target.id))
            .collect();
        let expected: Vec<(u32, u32)> = (0..)
            .zip(sample.input_ids().iter().zip(sample.loss_mask()))
            .filter(|(_, (_, masked))| **masked)
            .map(|(at, (id, _))| (at, *id))
            .collect();
        assert_eq!(mine, expected, "the predictions of sample {index}, in order");
    }
}

/// Samples over few different tokens, so that they share much.
fn sample() -> impl Strategy<Value = Sample> {
    vec((0..3_u32, any::<bool>()), 2..12).prop_filter_map("nothing to learn", |tokens| {
        let (ids, mut mask): (Vec<u32>, Vec<bool>) = tokens.into_iter().unzip();
        mask[0] = false;
        Sample::new(ids, mask).ok()
    })
}

proptest! {
    #[test]
    fn packing_asks_the_same_of_the_model(samples in vec(sample(), 0..8)) {
        let references: Vec<&Sample> = samples.iter().collect();
        let packed = Batch::pack(&references);
        check(&packed, &samples);
        prop_assert_eq!(predictions(&packed), predictions_one_by_one(&samples));

        let unshared = Batch::unshared(&references);
        check(&unshared, &samples);
        prop_assert!(unshared.segments().iter().all(|segment| segment.parent.is_none()));
        prop_assert_eq!(unshared.segments().len(), samples.len());
        prop_assert_eq!(unshared.rows(), packed.rows_unshared());
        prop_assert_eq!(unshared.rows(), unshared.rows_unshared());
        prop_assert!(packed.rows() <= unshared.rows());
    }

    /// Siblings begin with different tokens, segments are split only at branches, and every row is needed.
    #[test]
    fn packing_shares_all_that_can_be_shared(samples in vec(sample(), 1..8)) {
        let batch = Batch::pack(&samples.iter().collect::<Vec<_>>());
        let paths: std::collections::BTreeSet<Vec<u32>> = samples
            .iter()
            .flat_map(|sample| (1..=sample.computed().len()).map(|length| sample.computed()[..length].to_vec()))
            .collect();
        prop_assert_eq!(batch.rows(), paths.len());
        for index in 0..batch.segments().len() {
            let children = batch.segments().iter().filter(|segment| segment.parent == Some(index)).count();
            prop_assert_ne!(children, 1);
        }
    }
}

#[test]
fn candidates_share_their_prompt() {
    let batch = Batch::prompt_with_candidates(&[7, 8], &[vec![1], vec![2, 3], vec![2, 4]]).unwrap();
    assert_eq!(batch.input_ids(), [7, 8, 2]);
    assert_eq!(batch.samples(), 3);
    let of = |candidate| -> Vec<u32> {
        batch.targets_of(candidate).iter().map(|target| batch.targets()[*target as usize].id).collect()
    };
    assert_eq!([of(0), of(1), of(2), of(3)], [vec![1], vec![2, 3], vec![2, 4], vec![]]);
    assert!(matches!(Batch::prompt_with_candidates(&[7], &[vec![]]), Err(Error::NothingSupervised)));
}

#[test]
fn no_samples_are_an_empty_batch() {
    let batch = Batch::pack(&[]);
    assert_eq!((batch.rows(), batch.samples(), batch.supervised()), (0, 0, 0.0));
}
