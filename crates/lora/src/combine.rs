//! Updates of weights without a model: merging one matrix at a time, and several adapters as one.

use std::collections::{BTreeMap, BTreeSet};

use foehn_mistral::MistralConfig;

use crate::{Adapter, Error, LoraConfig, Matrices, TargetModules};

/// The values of the matrix that are updated by one thread at a time: 1 MiB of them.
const PIECE: usize = 1 << 18;

impl Adapter {
    /// Several adapters of one base as one, with `W + Σ wᵢ·sᵢ·Bᵢ·Aᵢ`: the update of each module is the sum of the adapters'
    /// updates, each times its weight.
    ///
    /// This is exact: the matrices are put beside each other, and the ranks add up (`combination_type="cat"` of PEFT's
    /// `add_weighted_adapter`). Weights and scales go into B, so that the scale of the result is 1 everywhere.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is no adapter, or if a weight is not finite; [`Error::Shape`] if matrices of one module
    /// have different sides; [`Error::NotFinite`] if a product is not finite.
    pub fn combined(parts: &[(f64, &Self)]) -> Result<Self, Error> {
        let Some((_, first)) = parts.first() else {
            return Err(Error::Setting { field: "adapters", found: "none".into(), expected: "at least one adapter" });
        };
        if let Some((weight, _)) = parts.iter().find(|(weight, _)| !weight.is_finite()) {
            return Err(Error::Setting { field: "weight", found: weight.to_string(), expected: "a finite number" });
        }
        let names: BTreeSet<&String> = parts.iter().flat_map(|(_, adapter)| adapter.modules.keys()).collect();
        let mut modules = BTreeMap::new();
        for name in names {
            let mut scaled = Vec::new();
            for (weight, adapter) in parts {
                if let Some(pair) = adapter.modules.get(name) {
                    scaled.push((weight * adapter.config.scale(name)?, pair));
                }
            }
            modules.insert(name.clone(), beside(name, &scaled)?);
        }
        let same_places = |other: &LoraConfig| {
            let LoraConfig { target_modules, exclude_modules, layers_to_transform, layers_pattern, .. } = &first.config;
            *target_modules == other.target_modules
                && *exclude_modules == other.exclude_modules
                && *layers_to_transform == other.layers_to_transform
                && *layers_pattern == other.layers_pattern
        };
        let places = match parts.iter().all(|(_, adapter)| same_places(&adapter.config)) {
            true => first.config.clone(),
            false => LoraConfig {
                target_modules: TargetModules::Suffixes(modules.keys().cloned().collect()),
                ..LoraConfig::default()
            },
        };
        let r = modules.values().map(|pair: &Matrices| pair.r).max().unwrap_or(1);
        let others = || modules.iter().filter(|(_, pair)| pair.r != r);
        let pattern = |name: &str| name.replace('.', r"\.");
        let config = LoraConfig {
            r,
            lora_alpha: r as f64,
            lora_dropout: 0.0,
            use_rslora: false,
            rank_pattern: others().map(|(name, pair)| (pattern(name), pair.r)).collect(),
            alpha_pattern: others().map(|(name, pair)| (pattern(name), pair.r as f64)).collect(),
            ..places
        };
        config.check()?;
        let combined = Self { config, modules, manifest: None };
        combined.check_values()?;
        Ok(combined)
    }

    /// Checks that every matrix fits a module of the network, and that every target module has its matrices.
    ///
    /// # Errors
    /// As [`attach`](crate::attach).
    pub fn check_config(&self, config: &MistralConfig) -> Result<(), Error> {
        self.check_dims(&config.projection_dims()).map(|_| ())
    }

    /// Adds a module's update, `s·B·A`, to its weight, `[out, in]` row-major: nothing if the adapter does not change the
    /// module. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Shape`] if the matrices do not fit the weight, [`Error::Pattern`].
    pub fn add_to(&self, module: &str, weight: &mut [f32], input: usize) -> Result<(), Error> {
        let Some(pair) = self.modules.get(module) else { return Ok(()) };
        let scale = self.config.scale(module)? as f32;
        let out = weight.len() / input.max(1);
        for (which, values, expected) in [("A", &pair.a, [pair.r, input]), ("B", &pair.b, [out, pair.r])] {
            if values.is_empty() || values.len() != expected[0] * expected[1] {
                let name = crate::adapter::tensor_name(module, which);
                return Err(Error::Shape { name, found: vec![values.len()], expected: expected.to_vec() });
            }
        }
        let rows = (PIECE / input.max(1)).max(1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut pieces: Vec<Vec<(&mut [f32], &[f32])>> = (0..threads).map(|_| Vec::new()).collect();
        let parts = weight.chunks_mut(rows * input).zip(pair.b.chunks(rows * pair.r));
        parts.enumerate().for_each(|(at, part)| pieces[at % threads].push(part));
        std::thread::scope(|scope| {
            for part in pieces {
                scope.spawn(move || part.into_iter().for_each(|(rows, b)| add_product(rows, b, &pair.a, input, scale)));
            }
        });
        Ok(())
    }
}

/// `rows += scale · b · a`, with `a` of `[r, input]`. The sum over the rank is made first, in ascending order.
fn add_product(rows: &mut [f32], b: &[f32], a: &[f32], input: usize, scale: f32) {
    let r = a.len() / input;
    let mut update = vec![0.0; input];
    for (row, factors) in rows.chunks_mut(input).zip(b.chunks(r)) {
        update.fill(0.0);
        for (factor, a) in factors.iter().zip(a.chunks(input)) {
            update.iter_mut().zip(a).for_each(|(sum, a)| *sum += factor * a);
        }
        row.iter_mut().zip(&update).for_each(|(weight, update)| *weight += scale * update);
    }
}

/// The matrices A below each other, and the matrices B, times their factors, beside each other.
fn beside(module: &str, parts: &[(f64, &Matrices)]) -> Result<Matrices, Error> {
    let sides = |pair: &Matrices| [pair.a.len() / pair.r.max(1), pair.b.len() / pair.r.max(1)];
    let first = parts.first().map(|(_, pair)| sides(pair)).unwrap_or_default();
    if let Some((_, other)) = parts.iter().find(|(_, pair)| sides(pair) != first) {
        let name = crate::adapter::tensor_name(module, "A");
        return Err(Error::Shape { name, found: sides(other).to_vec(), expected: first.to_vec() });
    }
    let a = parts.iter().flat_map(|(_, pair)| pair.a.iter().copied()).collect();
    let row = |row: usize| {
        parts.iter().flat_map(move |(factor, pair)| {
            pair.b[row * pair.r..][..pair.r].iter().map(move |value| (f64::from(*value) * factor) as f32)
        })
    };
    Ok(Matrices { r: parts.iter().map(|(_, pair)| pair.r).sum(), a, b: (0..first[1]).flat_map(row).collect() })
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const OUT: usize = 7;
    const IN: usize = 5;

    fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect()
    }

    fn adapter(rng: &mut ChaCha8Rng, config: LoraConfig, names: &[&str]) -> Adapter {
        let pair = |name: &&str| {
            let r = config.rank(name).unwrap();
            ((*name).to_owned(), Matrices { r, a: random(rng, r * IN), b: random(rng, OUT * r) })
        };
        Adapter { modules: names.iter().map(pair).collect(), config: config.clone(), manifest: None }
    }

    /// `s·B·A` in double precision, from the definition.
    fn update(adapter: &Adapter, name: &str) -> Vec<f64> {
        let Some(pair) = adapter.modules.get(name) else { return vec![0.0; OUT * IN] };
        let scale = adapter.config.scale(name).unwrap();
        let at = |row: usize, column: usize| {
            let product = |k: usize| f64::from(pair.b[row * pair.r + k]) * f64::from(pair.a[k * IN + column]);
            scale * (0..pair.r).map(product).sum::<f64>()
        };
        (0..OUT * IN).map(|index| at(index / IN, index % IN)).collect()
    }

    #[test]
    fn a_combination_updates_by_the_weighted_sum() {
        let mut rng = ChaCha8Rng::seed_from_u64(rand::random());
        let (q, v) = ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj");
        let targets = |names: &[&str]| TargetModules::Suffixes(names.iter().map(|&name| name.to_owned()).collect());
        let plain = LoraConfig { r: 3, lora_alpha: 6.0, target_modules: targets(&["q_proj"]), ..Default::default() };
        let other = LoraConfig {
            r: 4,
            lora_alpha: 5.0,
            use_rslora: true,
            rank_pattern: [("v_proj".to_owned(), 2)].into_iter().collect(),
            target_modules: targets(&["q_proj", "v_proj"]),
            ..Default::default()
        };
        let (one, two) = (adapter(&mut rng, plain, &[q]), adapter(&mut rng, other, &[q, v]));
        let combined = Adapter::combined(&[(0.25, &one), (-2.0, &two)]).unwrap();
        for name in [q, v] {
            let weight = random(&mut rng, OUT * IN);
            let mut found = weight.clone();
            combined.add_to(name, &mut found, IN).unwrap();
            let (first, second) = (update(&one, name), update(&two, name));
            for (at, found) in found.iter().enumerate() {
                let expected = f64::from(weight[at]) + 0.25 * first[at] - 2.0 * second[at];
                // Sums of at most seven products of numbers below 1 in single precision.
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{name}: {found} for {expected}");
            }
            assert!(combined.config.is_target(name).unwrap());
            assert_eq!(combined.config.rank(name).unwrap(), combined.modules[name].r);
        }
    }

    #[test]
    fn what_cannot_be_combined_is_refused() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let one = adapter(&mut rng, LoraConfig::default(), &["model.layers.0.self_attn.q_proj"]);
        assert!(matches!(Adapter::combined(&[]), Err(Error::Setting { field: "adapters", .. })));
        assert!(matches!(Adapter::combined(&[(f64::NAN, &one)]), Err(Error::Setting { field: "weight", .. })));
        let mut other = one.clone();
        other.modules.values_mut().for_each(|pair| pair.a.extend_from_within(..pair.r));
        assert!(matches!(Adapter::combined(&[(1.0, &one), (1.0, &other)]), Err(Error::Shape { .. })));
    }
}
