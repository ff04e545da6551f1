//! An adapter apart from any model.

use std::collections::BTreeMap;

use foehn_mistral::Mistral;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
    /// A fresh adapter for a model: A Kaiming-uniform with a = √5 (uniform in ±1/√in), B zero, as PEFT begins.
    ///
    /// # Errors
    /// [`Error::Setting`] and [`Error::Pattern`] for settings that make no sense, [`Error::NoTarget`] where no layer
    /// is a target.
    pub fn new(config: &LoraConfig, model: &Mistral, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut modules = BTreeMap::new();
        let projections = model.projections();
        for (name, projection) in &projections {
            if !config.target_modules.matches(name)? {
                continue;
            }
            let r = config.rank(name)?;
            let [out, input] = projection.weight().dims();
            let bound = 1.0 / (input as f32).sqrt();
            let a = (0..r * input).map(|_| (2.0 * unit(&mut rng) - 1.0) * bound).collect();
            modules.insert(name.clone(), Matrices { r, a, b: vec![0.0; out * r] });
        }
        if modules.is_empty() {
            return Err(Error::NoTarget {
                targets: serde_json::to_string(&config.target_modules).unwrap_or_default(),
                example: projections.first().map_or_else(String::new, |(name, _)| name.clone()),
            });
        }
        Ok(Self { config: config.clone(), modules, manifest: None })
    }

    /// The number of trainable parameters.
    pub fn num_params(&self) -> usize {
        self.modules.values().map(|pair| pair.a.len() + pair.b.len()).sum()
    }

    /// Checks that every matrix has a place of its shape in the model.
    pub(crate) fn check_fit(&self, model: &Mistral) -> Result<(), Error> {
        let projections: BTreeMap<_, _> = model.projections().into_iter().collect();
        for (module, pair) in &self.modules {
            let a_name = tensor_name(module, "A");
            let Some(projection) = projections.get(module) else {
                return Err(Error::Foreign { name: a_name });
            };
            let [out, input] = projection.weight().dims();
            let shapes = [
                (a_name, &pair.a, [pair.r, input], [pair.r, pair.a.len() / pair.r.max(1)]),
                (tensor_name(module, "B"), &pair.b, [out, pair.r], [pair.b.len() / pair.r.max(1), pair.r]),
            ];
            for (name, values, expected, found) in shapes {
                if values.len() != expected[0] * expected[1] || pair.r != self.config.rank(module)? {
                    let expected = if name.contains("lora_A") {
                        [self.config.rank(module)?, expected[1]]
                    } else {
                        [expected[0], self.config.rank(module)?]
                    };
                    return Err(Error::Shape { name, found: found.to_vec(), expected: expected.to_vec() });
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
