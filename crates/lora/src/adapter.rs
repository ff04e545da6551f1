//! An adapter as data, independent of a model.

use std::collections::BTreeMap;

use foehn_mistral::Mistral;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::pattern::is_outer;
use crate::{Error, LoraConfig, Manifest};

/// A pair of matrices for each adapted module.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The settings.
    pub config: LoraConfig,
    /// The matrices by module name (`model.layers.0.self_attn.q_proj`).
    pub modules: BTreeMap<String, Matrices>,
    /// Where the adapter comes from, if Foehn made it.
    pub manifest: Option<Manifest>,
}

/// The two factors of one module's update, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrices {
    /// The rank.
    pub r: usize,
    /// `[r, in]`
    pub a: Vec<f32>,
    /// `[out, r]`
    pub b: Vec<f32>,
}

impl Adapter {
    /// A new adapter for a model, initialised as in PEFT: A is Kaiming-uniform with a = √5 (uniform in ±1/√in), B is
    /// zero.
    ///
    /// # Errors
    /// Those of [`LoraConfig::check`], [`Error::NoTarget`] if no layer is a target, [`Error::Unmatched`] for an entry
    /// that matches nothing, [`Error::Rank`] for a rank larger than a matrix.
    pub fn new(config: &LoraConfig, model: &Mistral, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let projections: BTreeMap<_, _> = model.projections().into_iter().collect();
        let names: Vec<String> = model.projections().into_iter().map(|(name, _)| name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let places = config.compile()?.places(&names)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut modules = BTreeMap::new();
        // The order of the forward pass, because it decides which random numbers each matrix gets.
        for name in names {
            let (Some(place), Some(projection)) = (places.get(name), projections.get(name)) else { continue };
            let r = place.rank;
            let [out, input] = projection.weight().dims();
            if r > out.max(input) {
                return Err(Error::Rank { module: name.to_owned(), found: r, limit: out.max(input) });
            }
            let bound = 1.0 / (input as f32).sqrt();
            let a = (0..r * input).map(|_| (2.0 * unit(&mut rng) - 1.0) * bound).collect();
            modules.insert(name.to_owned(), Matrices { r, a, b: vec![0.0; out * r] });
        }
        Ok(Self { config: config.clone(), modules, manifest: None })
    }

    /// The number of trainable parameters.
    pub fn num_params(&self) -> usize {
        self.modules.values().map(|pair| pair.a.len() + pair.b.len()).sum()
    }

    /// Whether every B is zero, as before training: then the adapter changes nothing.
    pub fn is_zero(&self) -> bool {
        self.modules.values().all(|pair| pair.b.iter().all(|&value| value == 0.0))
    }

    /// Checks that every matrix fits a layer of the model, and that every target layer has its matrices. Returns each
    /// module's scale.
    pub(crate) fn check_fit(&self, model: &Mistral) -> Result<BTreeMap<String, f64>, Error> {
        let dims: Vec<_> = model.projections().iter().map(|(name, it)| (name.clone(), it.weight().dims())).collect();
        self.check_dims(&dims)
    }

    /// As [`check_fit`](Self::check_fit), given each projection's name and its shape `[out, in]`.
    pub(crate) fn check_dims(&self, projections: &[(String, [usize; 2])]) -> Result<BTreeMap<String, f64>, Error> {
        let projections: BTreeMap<&str, [usize; 2]> =
            projections.iter().map(|(name, dims)| (name.as_str(), *dims)).collect();
        let compiled = self.config.compile()?;
        for (module, pair) in &self.modules {
            let Some(&[out, input]) = projections.get(module.as_str()) else {
                let name = tensor_name(module, "A");
                return Err(if is_outer(module) { Error::UnsupportedLayer { name } } else { Error::Foreign { name } });
            };
            let r = compiled.place(module)?.rank;
            let matrices = [
                ("A", &pair.a, [r, input], [pair.r, pair.a.len() / pair.r.max(1)]),
                ("B", &pair.b, [out, r], [pair.b.len() / pair.r.max(1), pair.r]),
            ];
            for (which, values, expected, found) in matrices {
                if found != expected || values.len() != expected[0] * expected[1] {
                    let name = tensor_name(module, which);
                    return Err(Error::Shape { name, found: found.to_vec(), expected: expected.to_vec() });
                }
            }
        }
        let names: Vec<&str> = projections.keys().copied().collect();
        let places = compiled.places(&names)?;
        if let Some(module) = self.modules.keys().find(|module| !places.contains_key(module.as_str())) {
            return Err(Error::Untargeted { name: tensor_name(module, "A") });
        }
        if let Some(module) = places.keys().find(|module| !self.modules.contains_key(**module)) {
            return Err(Error::Missing { name: tensor_name(module, "A") });
        }
        self.check_values()?;
        Ok(places.into_iter().map(|(name, place)| (name.to_owned(), place.scale)).collect())
    }

    /// Refuses NaN and infinity, and matrices whose number of elements is not a multiple of their rank.
    pub(crate) fn check_values(&self) -> Result<(), Error> {
        for (module, Matrices { r, a, b }) in &self.modules {
            for (which, values) in [("A", a), ("B", b)] {
                let name = || tensor_name(module, which);
                if *r == 0 || values.len() % r != 0 {
                    return Err(Error::Shape { name: name(), found: vec![values.len()], expected: vec![*r] });
                }
                if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                    return Err(Error::NotFinite { name: name(), value: values[index], index });
                }
            }
        }
        Ok(())
    }
}

/// PEFT's name for a module's matrix A or B.
pub(crate) fn tensor_name(module: &str, which: &str) -> String {
    format!("base_model.model.{module}.lora_{which}.weight")
}

/// Uniform in `[0, 1)`, from the 24 high bits of a word.
fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}
