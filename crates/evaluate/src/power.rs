//! What a number of items can show: intervals of shares, and the smallest difference that could have been noticed.

/// The level of significance of [`smallest_difference`].
const LEVEL: f64 = 0.05;
/// The 97.5% quantile of the normal distribution.
const NORMAL: f64 = 1.959963984540054;
/// The smallest number of items that McNemar's exact test can call a difference: `2 · 0.5⁶ = 0.03125 ≤ 0.05`.
const FEWEST: u64 = 6;

/// The smallest difference of two shares of right answers that McNemar's exact two-sided test calls significant at
/// 0.05, if `discordant` of the `items` are right in exactly one of the two runs.
///
/// With `b` and `c` of them on either side, `b + c = discordant`, the difference is `|b − c| / items`, and the result
/// is the smallest with `min(1, 2 · P(X ≤ min(b, c))) ≤ 0.05`, where `X` is binomial with probability one half over
/// `discordant`. Fewer than 6 show nothing however they fall; then the result is what would have been needed at the
/// least: 6 items more on one side, `6 / items`. `None` if there are fewer than 6 items, which can show nothing.
///
/// Source: McNemar 1947; `mcnemar(exact=True)` of statsmodels, `binomtest` of SciPy.
///
/// # Panics
/// When `discordant` is above `items`.
pub fn smallest_difference(items: u64, discordant: u64) -> Option<f64> {
    assert!(discordant <= items, "smallest difference: {discordant} of {items} items differ");
    if items < FEWEST {
        return None;
    }
    let smaller = largest_smaller_side(discordant);
    let needed = smaller.map_or(FEWEST, |smaller| discordant - 2 * smaller);
    Some(needed as f64 / items as f64)
}

/// The 95% interval of a share of right answers by Wilson's score, `(low, high)`.
///
/// With `p = right / n` and `z` the 97.5% quantile of the normal distribution, it is
/// `(p + z²/2n ± z · √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)`, within 0 and 1. Of no answers nothing is known: 0 to 1.
///
/// Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference";
/// `proportion_confint(method="wilson")` of statsmodels.
///
/// # Panics
/// When `right` is above `n`.
pub fn wilson(right: u64, n: u64) -> (f64, f64) {
    assert!(right <= n, "wilson: {right} of {n} are right");
    if n == 0 {
        return (0.0, 1.0);
    }
    let (share, n, square) = (right as f64 / n as f64, n as f64, NORMAL * NORMAL);
    let scale = 1.0 + square / n;
    let center = (share + square / (2.0 * n)) / scale;
    let half = NORMAL * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt() / scale;
    ((center - half).max(0.0), (center + half).min(1.0))
}

/// The largest number of items on the smaller side for which the test is significant.
fn largest_smaller_side(discordant: u64) -> Option<u64> {
    let n = discordant as f64;
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    let mut found = None;
    for k in 0..=discordant / 2 {
        if k > 0 {
            log_choose += ((n - k as f64 + 1.0) / k as f64).ln();
        }
        tail += (log_choose - n * std::f64::consts::LN_2).exp();
        if 2.0 * tail > LEVEL {
            break;
        }
        found = Some(k);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;

    #[derive(Deserialize)]
    struct Difference {
        items: u64,
        discordant: u64,
        difference: Option<f64>,
    }

    #[derive(Deserialize)]
    struct Share {
        right: u64,
        n: u64,
        low: f64,
        high: f64,
    }

    fn golden<T: DeserializeOwned>(name: &str) -> Vec<T> {
        let golden: Value = serde_json::from_str(include_str!("../tests/fixtures/statistics.json")).unwrap();
        let cases: Vec<T> = serde_json::from_value(golden[name].clone()).unwrap();
        assert!(cases.len() > 50);
        cases
    }

    #[test]
    fn differences_are_those_of_scipys_binomial_test() {
        for Difference { items, discordant, difference } in golden("smallest_difference") {
            let found = smallest_difference(items, discordant);
            assert_eq!(found.is_some(), difference.is_some(), "{items}, {discordant}");
            let (found, expected) = (found.unwrap_or(0.0), difference.unwrap_or(0.0));
            assert!((found - expected).abs() < 1e-9, "{items}, {discordant}: {found}, expected {expected}");
        }
    }

    #[test]
    fn intervals_are_those_of_statsmodels() {
        for Share { right, n, low, high } in golden("wilson") {
            let found = wilson(right, n);
            assert!((found.0 - low).abs() < 1e-9 && (found.1 - high).abs() < 1e-9, "{right} of {n}: {found:?}");
        }
    }

    #[test]
    fn few_items_show_nothing() {
        assert_eq!(smallest_difference(5, 5), None);
        assert_eq!(smallest_difference(0, 0), None);
        assert_eq!(smallest_difference(6, 0), Some(1.0));
        assert_eq!(smallest_difference(60, 5), Some(0.1));
        assert_eq!(smallest_difference(60, 6), Some(0.1));
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    /// `min(1, 2 · P(X ≤ smaller))` from whole numbers.
    fn p_value(smaller: u64, discordant: u64) -> f64 {
        let mut choose = 1u128;
        let mut sum = 1u128;
        for k in 1..=u128::from(smaller) {
            choose = choose * (u128::from(discordant) - k + 1) / k;
            sum += choose;
        }
        (2.0 * sum as f64 / 2f64.powi(discordant as i32)).min(1.0)
    }

    proptest! {
        /// The difference is significant, and one item less on the larger side is not.
        #[test]
        fn the_test_has_its_edge_there(discordant in 6u64..100, rest in 0u64..100) {
            let items = discordant + rest;
            let difference = (smallest_difference(items, discordant).unwrap() * items as f64).round() as u64;
            prop_assert!(difference > 0 && difference <= discordant);
            let smaller = (discordant - difference) / 2;
            prop_assert!(p_value(smaller, discordant) <= LEVEL);
            prop_assert!(2 * (smaller + 1) > discordant || p_value(smaller + 1, discordant) > LEVEL);
        }

        /// Two more items that differ never make a smaller difference enough.
        #[test]
        fn noise_asks_for_more(items in 8u64..5000, part in 0.0..1.0) {
            let discordant = (part * (items - 2) as f64) as u64;
            let (less, more) = (smallest_difference(items, discordant), smallest_difference(items, discordant + 2));
            prop_assert!(less <= more);
        }

        #[test]
        fn an_interval_holds_its_share(n in 1u64..100_000, part in 0.0..=1.0) {
            let right = (part * n as f64) as u64;
            let (low, high) = wilson(right, n);
            let share = right as f64 / n as f64;
            prop_assert!(0.0 <= low && low <= share + 1e-12 && share - 1e-12 <= high && high <= 1.0);
            let mirrored = wilson(n - right, n);
            prop_assert!((low - (1.0 - mirrored.1)).abs() < 1e-12);
        }
    }
}
