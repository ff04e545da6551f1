//! The type of each tensor of a GGUF.

use std::fmt;
use std::str::FromStr;

use foehn_weights::DType;

use crate::{Error, Result};

/// How the tensors of a GGUF are stored, with llama.cpp's names and its choices for each tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    name: &'static str,
    /// llama.cpp's number, `general.file_type`.
    file_type: u32,
    matrices: DType,
    /// The output head, or the embedding where it is the head.
    head: DType,
    /// In the mixes `_M`, the values and the last projection of the feed-forward block of some layers.
    better: Option<DType>,
}

const fn plain(name: &'static str, file_type: u32, matrices: DType, head: DType) -> Mix {
    Mix { name, file_type, matrices, head, better: None }
}

/// Source: `llama_tensor_get_type` and `enum llama_ftype` of llama.cpp, without an importance matrix.
const MIXES: [Mix; 13] = [
    plain("f32", 0, DType::F32, DType::F32),
    plain("f16", 1, DType::F16, DType::F16),
    plain("bf16", 32, DType::BF16, DType::BF16),
    plain("q8_0", 7, DType::Q8_0, DType::Q8_0),
    plain("q4_0", 2, DType::Q4_0, DType::Q6K),
    plain("q4_1", 3, DType::Q4_1, DType::Q6K),
    plain("q5_0", 8, DType::Q5_0, DType::Q6K),
    plain("q5_1", 9, DType::Q5_1, DType::Q6K),
    plain("q4_k", 14, DType::Q4K, DType::Q6K),
    plain("q5_k", 16, DType::Q5K, DType::Q6K),
    plain("q6_k", 18, DType::Q6K, DType::Q6K),
    Mix { better: Some(DType::Q6K), ..plain("q4_k_m", 15, DType::Q4K, DType::Q6K) },
    Mix { better: Some(DType::Q6K), ..plain("q5_k_m", 17, DType::Q5K, DType::Q6K) },
];

impl Mix {
    /// Every mix.
    pub fn all() -> impl Iterator<Item = Self> {
        MIXES.into_iter()
    }

    /// llama.cpp's number for the mix.
    pub fn file_type(self) -> u32 {
        self.file_type
    }

    /// Whether the mix has fewer bits than 16, so that the merged weights are rounded much more than any adapter's training
    /// expected.
    pub fn is_quantised(self) -> bool {
        self.matrices.block_elements() != 1
    }

    /// The type of a tensor, given Hugging Face's name, its shape, whether the embedding is the head, and the number of layers.
    /// Vectors are stored in single precision. A row that is not whole blocks gets the type that llama.cpp takes instead.
    pub fn dtype(self, name: &str, shape: &[usize], tied: bool, layers: usize) -> DType {
        let &[_, row] = shape else { return DType::F32 };
        let is_head = name == "lm_head.weight" || tied && name == "model.embed_tokens.weight";
        let is_better = (name.ends_with(".v_proj.weight") || name.ends_with(".down_proj.weight"))
            && layer(name).is_some_and(|layer| has_more_bits(layer, layers));
        let chosen = match self.better {
            _ if is_head => self.head,
            Some(better) if is_better => better,
            _ => self.matrices,
        };
        let fits = |dtype: &DType| row.is_multiple_of(dtype.block_elements());
        let fallback = match chosen {
            DType::Q4K => DType::Q5_0,
            DType::Q5K => DType::Q5_1,
            _ => DType::Q8_0,
        };
        [chosen, fallback].into_iter().find(fits).unwrap_or(DType::F16)
    }
}

/// The index of a tensor's layer.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

/// llama.cpp's `use_more_bits`: the first eighth of the layers, the last, and every third between.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Mix {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownMix`], with a list of the known types.
    fn from_str(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        MIXES
            .into_iter()
            .find(|mix| mix.name == lower)
            .ok_or_else(|| Error::UnknownMix { found: text.to_owned(), known: MIXES.map(|mix| mix.name).join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_are_those_of_llama_cpp() {
        let of = |mix: &str, name: &str, row: usize| {
            mix.parse::<Mix>().unwrap().dtype(&format!("{name}.weight"), &[64, row], true, 32)
        };
        let (down, gate) = ("model.layers.1.mlp.down_proj", "model.layers.1.mlp.gate_proj");
        assert_eq!(of("q4_k_m", down, 4096), DType::Q6K);
        assert_eq!(of("q4_k_m", gate, 4096), DType::Q4K);
        // Layers 4, 5 and 6: the third of the first three after the first eighth.
        let values = [4, 5, 6, 27, 28].map(|at| of("Q5_K_M", &format!("model.layers.{at}.self_attn.v_proj"), 4096));
        assert_eq!(values, [DType::Q5K, DType::Q5K, DType::Q6K, DType::Q6K, DType::Q6K]);
        assert_eq!(of("q4_k", down, 4096), DType::Q4K);
        assert_eq!(of("q4_0", "model.embed_tokens", 4096), DType::Q6K);
        // SmolLM2's rows of 576 are no super-blocks; rows of 40 are no blocks at all.
        assert_eq!(of("q4_k_m", gate, 576), DType::Q5_0);
        assert_eq!(of("q5_k_m", gate, 576), DType::Q5_1);
        assert_eq!(of("q4_0", "model.embed_tokens", 576), DType::Q8_0);
        assert_eq!(of("q4_0", gate, 40), DType::F16);
        assert_eq!("q4_0".parse::<Mix>().unwrap().dtype("model.norm.weight", &[64], true, 2), DType::F32);
        assert!(matches!("q9".parse::<Mix>(), Err(Error::UnknownMix { .. })));
    }
}
