//! The adapter's numbers by themselves, and beside the weights that they change.

use foehn_lora::{Adapter, Matrices};

use super::case::{Case, Unmeasured};
use super::{Check, Finding, Severity};

/// An update of this size, as a share of its weight, is a warning or a fault. Trained adapters stay below 0.5.
const LARGE: f64 = 1.0;
const HUGE: f64 = 4.0;

/// Looks for NaN, infinity, and updates that are larger than their weight.
pub(super) fn values(case: &Case<'_>) -> Finding {
    let looked_at = "every number of the adapter, and the norm of scale·B·A beside that of each weight";
    let fault =
        |found: String, advice: &str| Finding::new(Check::Values, Severity::Fault, looked_at, found).advising(advice);
    let adapter = match &case.adapter {
        Ok(adapter) => adapter,
        Err(broken) => {
            let (tensors, all, first) = (broken.tensors.len(), broken.all, &broken.first);
            let found = format!("{tensors} of {all} tensors have NaN or infinity; the first: {first}");
            return fault(found, "go back to an earlier checkpoint, and train on with a smaller learning rate");
        }
    };
    let Some((module, largest, median)) = updates(case, adapter) else {
        return Finding::not_checked(Check::Values, looked_at, "all numbers are finite, but no matrix fits this base");
    };
    let found = format!("the largest update is {largest:.2} of its weight, in {module}; the median {median:.3}");
    let advice = "train with a smaller learning rate or gradient clipping, and check alpha and the scale";
    if largest > HUGE || !largest.is_finite() {
        return fault(found, advice);
    }
    if largest > LARGE {
        return Finding::new(Check::Values, Severity::Warning, looked_at, found).advising(advice);
    }
    if let Err(reason @ Unmeasured::NotFinite(_)) = &case.measured {
        return fault(reason.to_string(), advice);
    }
    Finding::sound(Check::Values, looked_at, format!("all are finite; {found}"))
}

/// The module with the largest ratio of norms, that ratio, and the median; `None` if no module fits the base.
fn updates(case: &Case<'_>, adapter: &Adapter) -> Option<(String, f64, f64)> {
    let mut ratios: Vec<(f64, String)> = Vec::new();
    for (name, projection) in case.base.model.projections() {
        let Some(pair) = adapter.modules.get(&name) else { continue };
        let (Ok(scale), [out, input]) = (adapter.config.scale(&name), projection.weight().dims()) else { continue };
        if pair.a.len() != pair.r * input || pair.b.len() != out * pair.r {
            continue;
        }
        let weight: Vec<f32> = projection.weight().to_tensor().into_data().try_into_vec().unwrap_or_default();
        let norm = weight.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        ratios.push((scale * update_norm(pair) / norm.max(f64::MIN_POSITIVE), name));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = ratios.get(ratios.len() / 2)?.0;
    ratios.pop().map(|(largest, name)| (name, largest, median))
}

/// `‖B·A‖`, from the inner products of B's columns and of A's rows: `‖B·A‖² = Σᵢⱼ (BᵀB)ᵢⱼ (AAᵀ)ᵢⱼ`.
fn update_norm(pair: &Matrices) -> f64 {
    let Matrices { r, a, b } = pair;
    let (r, width) = (*r, a.len() / r);
    let mut of_b = vec![0.0; r * r];
    for row in b.chunks_exact(r) {
        for (sums, left) in of_b.chunks_exact_mut(r).zip(row) {
            sums.iter_mut().zip(row).for_each(|(sum, right)| *sum += f64::from(*left) * f64::from(*right));
        }
    }
    let mut square = 0.0;
    for (sums, left) in of_b.chunks_exact(r).zip(a.chunks_exact(width)) {
        for (sum, right) in sums.iter().zip(a.chunks_exact(width)) {
            square += sum * left.iter().zip(right).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        }
    }
    square.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_an_update_is_that_of_the_product() {
        // B·A = [[5, 4, 2], [11, 8, 6]]
        let pair = Matrices { r: 2, a: vec![1.0, 0.0, 2.0, 2.0, 2.0, 0.0], b: vec![1.0, 2.0, 3.0, 4.0] };
        let expected = (25.0f64 + 16.0 + 4.0 + 121.0 + 64.0 + 36.0).sqrt();
        assert!((update_norm(&pair) - expected).abs() < 1e-9, "{}", update_norm(&pair));
    }
}
