//! How well an audit finds errors that are known.

use foehn_evaluate::softmax;
use serde::Serialize;

use super::{Audit, AuditError};

/// The share of the records that are looked at for [`Found`].
const SHARE: f64 = 0.1;

/// The known errors that an audit finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The number of known errors.
    pub known: usize,
    /// The number of judged records.
    pub judged: usize,
    /// The tenth of them that is looked at: the most doubtful ones.
    pub looked_at: usize,
    /// The known errors among these.
    pub found: usize,
    /// `found / known`.
    pub recall: f64,
    /// The probability that a known error is more doubtful than another record.
    pub auroc: f64,
    /// The known errors whose likeliest label is not the given one.
    pub contradicted: usize,
}

impl Audit {
    /// Compares the ranking with records whose labels are known to be wrong, named by line or id. Kept records count as
    /// judged.
    ///
    /// # Errors
    /// [`AuditError::UnknownRecord`].
    pub fn find(&self, known: &[String]) -> Result<Found, AuditError> {
        let mut lines = known.iter().map(|name| Ok(self.record(name)?.line)).collect::<Result<Vec<_>, AuditError>>()?;
        lines.sort_unstable();
        lines.dedup();
        let is_known: Vec<bool> = self.judged.iter().map(|judged| lines.binary_search(&judged.line).is_ok()).collect();
        let doubts: Vec<f64> = self.judged.iter().map(|judged| judged.doubt).collect();
        let looked_at = (SHARE * self.judged.len() as f64).round() as usize;
        let found = is_known.iter().take(looked_at).filter(|is_known| **is_known).count();
        let wrong = self.judged.iter().zip(&is_known).filter(|(_, is_known)| **is_known);
        Ok(Found {
            known: lines.len(),
            judged: self.judged.len(),
            looked_at,
            found,
            recall: found as f64 / lines.len().max(1) as f64,
            auroc: auroc(&doubts, &is_known),
            contradicted: wrong.filter(|(judged, _)| judged.doubt > 0.0).count(),
        })
    }
}

/// The area under the receiver's curve: the probability that a positive has a higher score than a negative, where equal
/// scores count half (Mann and Whitney 1947). NaN without both.
///
/// # Panics
/// When there are not as many scores as marks.
pub fn auroc(scores: &[f64], is_positive: &[bool]) -> f64 {
    assert_eq!(scores.len(), is_positive.len(), "auroc: not one score per mark");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut below, mut wins, mut at) = (0.0, 0.0, 0);
    while at < order.len() {
        let same = order[at..].iter().take_while(|other| scores[**other] == scores[order[at]]).count().max(1);
        let positives = order[at..at + same].iter().filter(|other| is_positive[**other]).count() as f64;
        let negatives = same as f64 - positives;
        wins += positives * (below + negatives / 2.0);
        below += negatives;
        at += same;
    }
    wins / (below * (scores.len() as f64 - below))
}

/// The rounds of [`calibrated`]. Each brings the shares nearer to the wanted ones.
const ROUNDS: usize = 60;

/// The scores of a fold's records with one number for each label added, such that the mean probability of a label is its
/// share among the given labels (`given[record]`). A label that nobody has keeps its scores.
///
/// An adapter that has seen little prefers some labels to others, whatever is asked, and another fold's adapter prefers
/// others. Without this correction, whole labels of a fold would rank high. Wrong labels hardly change the shares.
pub(super) fn calibrated(scores: &[Vec<f64>], given: &[usize]) -> Vec<Vec<f64>> {
    let labels = scores.first().map_or(0, Vec::len);
    let share = |label: usize| given.iter().filter(|own| **own == label).count() as f64 / given.len() as f64;
    let shares: Vec<f64> = (0..labels).map(share).collect();
    let mut added = vec![0.0; labels];
    let with = |added: &[f64], scores: &[f64]| -> Vec<f64> { scores.iter().zip(added).map(|(a, b)| a + b).collect() };
    for _ in 0..ROUNDS {
        let mut means = vec![0.0; labels];
        for scores in scores {
            for (mean, probability) in means.iter_mut().zip(softmax(&with(&added, scores))) {
                *mean += probability / given.len() as f64;
            }
        }
        for ((added, share), mean) in added.iter_mut().zip(&shares).zip(means) {
            if *share > 0.0 && mean > 0.0 {
                *added += (share / mean).ln();
            }
        }
    }
    scores.iter().map(|scores| with(&added, scores)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn areas_by_hand() {
        // The example of scikit-learn's `roc_auc_score`.
        assert_eq!(auroc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), 0.75);
        assert_eq!(auroc(&[1.0, 1.0, 1.0], &[false, true, true]), 0.5);
        assert_eq!(auroc(&[3.0, 1.0, 2.0], &[true, false, false]), 1.0);
        assert!(auroc(&[1.0], &[true]).is_nan() && auroc(&[], &[]).is_nan());
    }

    #[test]
    fn a_label_that_is_preferred_everywhere_is_corrected() {
        // Two records of each label, told apart by 2; label 1 is preferred by 10 whatever is asked.
        let scores = [[2.0, 10.0, -30.0], [2.5, 10.0, -30.0], [0.0, 12.0, -30.0], [0.0, 12.5, -30.0]].map(Vec::from);
        let given = [0, 0, 1, 1];
        let found = calibrated(&scores, &given);
        for (scores, given) in found.iter().zip(given) {
            assert!(scores[given] > scores[1 - given], "{found:?}");
        }
        let mean = found.iter().map(|scores| softmax(scores)[0]).sum::<f64>() / 4.0;
        assert!((mean - 0.5).abs() < 1e-6, "{mean}");
        // What is told of two records of the fold stays.
        for (before, after) in scores.windows(2).zip(found.windows(2)) {
            let told = |pair: &[Vec<f64>]| (pair[0][0] - pair[0][1]) - (pair[1][0] - pair[1][1]);
            assert!((told(before) - told(after)).abs() < 1e-9);
        }
        assert!(calibrated(&[], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_ordered_pairs(
            drawn in prop::collection::vec((0u8..6, any::<bool>()), 1..40),
        ) {
            let scores: Vec<f64> = drawn.iter().map(|(score, _)| f64::from(*score)).collect();
            let marks: Vec<bool> = drawn.iter().map(|(_, mark)| *mark).collect();
            let of = |wanted: bool| scores.iter().zip(&marks).filter(move |(_, mark)| **mark == wanted);
            let pairs: Vec<f64> = of(true)
                .flat_map(|(a, _)| of(false).map(move |(b, _)| if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 }))
                .collect();
            prop_assume!(!pairs.is_empty());
            let expected = pairs.iter().sum::<f64>() / pairs.len() as f64;
            prop_assert!((auroc(&scores, &marks) - expected).abs() < 1e-12);
        }
    }
}
