//! Whether a model is right as often as it says.

use serde::{Deserialize, Serialize};

/// The number of bins, of equal width.
const BINS: usize = 10;

/// How often a model is right, by the probability that it gives its prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Ten bins of equal width, from 0 to 1.
    pub bins: Vec<Bin>,
    /// The expected calibration error, `Σ count / n · |accuracy − confidence|` over the bins: 0 is the best; 0 if there
    /// are no predictions.
    pub ece: f64,
    /// Predictions whose confidence is no probability (a number that is none, below 0 or above 1): in no bin.
    pub excluded: u64,
}

/// The predictions with a confidence in an interval. A mean of no predictions is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The bin's lower end, which belongs to the bin below it; 0 belongs to the first bin.
    pub low: f64,
    /// The bin's upper end, which belongs to it.
    pub high: f64,
    /// The number of predictions.
    pub count: u64,
    /// The mean of their confidences.
    pub confidence: f64,
    /// The share of them that is right.
    pub accuracy: f64,
}

impl Reliability {
    /// The reliability of predictions: the probability that each label predicted was given, and whether it was right.
    ///
    /// Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"; Guo et al. 2017,
    /// "On calibration of modern neural networks"; the bins are those of scikit-learn's
    /// `calibration_curve(n_bins=10, strategy="uniform")`, which leaves out the empty ones.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn new(confidences: &[f64], right: &[bool]) -> Self {
        assert_eq!(confidences.len(), right.len(), "reliability: confidences and outcomes differ in length");
        let mut sums = [(0u64, 0.0, 0u64); BINS];
        let mut excluded = 0;
        for (&confidence, &right) in confidences.iter().zip(right) {
            if !(0.0..=1.0).contains(&confidence) {
                excluded += 1;
                continue;
            }
            let bin = (1..BINS).take_while(|bin| end(*bin) < confidence).count();
            let (count, sum, hits) = &mut sums[bin];
            *count += 1;
            *sum += confidence;
            *hits += u64::from(right);
        }
        let bins: Vec<Bin> = sums
            .into_iter()
            .enumerate()
            .map(|(bin, (count, sum, hits))| {
                let mean = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
                Bin { low: end(bin), high: end(bin + 1), count, confidence: mean(sum), accuracy: mean(hits as f64) }
            })
            .collect();
        let total: u64 = bins.iter().map(|bin| bin.count).sum();
        let gaps = bins.iter().map(|bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs());
        let ece = if total == 0 { 0.0 } else { gaps.sum::<f64>() / total as f64 };
        Self { bins, ece, excluded }
    }
}

/// The lower end of a bin, rounded as NumPy's `linspace` rounds it.
fn end(bin: usize) -> f64 {
    if bin == BINS { 1.0 } else { bin as f64 * 0.1 }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Predictions, and scikit-learn's figures of the bins that are not empty.
    #[derive(Deserialize)]
    struct Case {
        confidences: Vec<f64>,
        right: Vec<bool>,
        counts: Vec<u64>,
        confidence: Vec<f64>,
        accuracy: Vec<f64>,
        ece: f64,
    }

    #[test]
    fn bins_are_those_of_scikit_learn() {
        let golden: Value = serde_json::from_str(include_str!("../tests/fixtures/statistics.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_value(golden["reliability"].clone()).unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let found = Reliability::new(&case.confidences, &case.right);
            let counts: Vec<u64> = found.bins.iter().map(|bin| bin.count).collect();
            assert_eq!(counts, case.counts);
            let filled: Vec<&Bin> = found.bins.iter().filter(|bin| bin.count > 0).collect();
            assert_eq!((filled.len(), filled.len()), (case.confidence.len(), case.accuracy.len()));
            for (bin, (confidence, accuracy)) in filled.iter().zip(case.confidence.iter().zip(&case.accuracy)) {
                assert!((bin.confidence - confidence).abs() < 1e-9, "{bin:?}, expected {confidence}");
                assert!((bin.accuracy - accuracy).abs() < 1e-9, "{bin:?}, expected {accuracy}");
            }
            assert!((found.ece - case.ece).abs() < 1e-9, "{}, expected {}", found.ece, case.ece);
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        let nothing = Reliability::new(&[], &[]);
        assert_eq!((nothing.bins.len(), nothing.ece, nothing.excluded), (10, 0.0, 0));
        assert_eq!(nothing.bins[9], Bin { low: 0.9, high: 1.0, count: 0, confidence: 0.0, accuracy: 0.0 });
        // Sure and right; sure and wrong.
        assert_eq!(Reliability::new(&[1.0; 3], &[true; 3]).ece, 0.0);
        assert_eq!(Reliability::new(&[1.0; 3], &[false; 3]).ece, 1.0);
        // Neighbouring bins of one item each do not make good for one another, items of one bin do.
        assert!((Reliability::new(&[0.45, 0.55], &[true, false]).ece - 0.55).abs() < 1e-12);
        assert!(Reliability::new(&[0.5, 0.5], &[true, false]).ece.abs() < 1e-12);
    }

    #[test]
    fn a_confidence_that_is_no_probability_is_in_no_bin() {
        let found = Reliability::new(&[f64::NAN, -0.1, 1.5, f64::INFINITY, 0.75], &[true; 5]);
        assert_eq!((found.excluded, found.ece), (4, 0.25));
        assert_eq!(found.bins.iter().map(|bin| bin.count).sum::<u64>(), 1);
    }

    proptest! {
        #[test]
        fn every_prediction_is_in_its_bin(items in vec((0.0..=1.0, any::<bool>()), 0..60)) {
            let (confidences, right): (Vec<f64>, Vec<bool>) = items.into_iter().unzip();
            let found = Reliability::new(&confidences, &right);
            prop_assert_eq!(found.bins.iter().map(|bin| bin.count).sum::<u64>(), right.len() as u64);
            for bin in found.bins.iter().filter(|bin| bin.count > 0) {
                prop_assert!(bin.low - 1e-12 <= bin.confidence && bin.confidence <= bin.high + 1e-12);
            }
            // At the least, the gap of all items together: the bins can only add to it.
            let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let gap = mean(confidences) - mean(right.into_iter().map(f64::from).collect());
            prop_assert!(found.ece >= gap.abs() - 1e-12 && found.ece <= 1.0);
        }
    }
}
