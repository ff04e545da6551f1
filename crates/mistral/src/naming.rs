//! The names of tensors in the formats of checkpoints.

use foehn_weights::Weights;

use crate::MistralConfig;

/// How a checkpoint names its tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Naming {
    /// Hugging Face's names.
    HuggingFace,
    /// Hugging Face's names, with `language_model.` before all of them: a language model beside a vision model, before
    /// transformers 5.
    Wrapped,
    /// Hugging Face's names, with `model.language_model.` for `model.`: the same since transformers 5.
    WrappedInside,
    /// The names of Mistral's own checkpoints, `consolidated.safetensors`.
    Native,
    /// llama.cpp's names.
    Gguf {
        /// Whether the rows of q and k are in interleaved pairs.
        interleaved: bool,
    },
}

/// The name of a tensor of a layer in Hugging Face's checkpoints, in Mistral's own, and in a GGUF.
const IN_LAYER: [[&str; 3]; 11] = [
    ["input_layernorm", "attention_norm", "attn_norm"],
    ["self_attn.q_proj", "attention.wq", "attn_q"],
    ["self_attn.k_proj", "attention.wk", "attn_k"],
    ["self_attn.v_proj", "attention.wv", "attn_v"],
    ["self_attn.o_proj", "attention.wo", "attn_output"],
    ["self_attn.q_norm", "attention.q_norm", "attn_q_norm"],
    ["self_attn.k_norm", "attention.k_norm", "attn_k_norm"],
    ["post_attention_layernorm", "ffn_norm", "ffn_norm"],
    ["mlp.gate_proj", "feed_forward.w1", "ffn_gate"],
    ["mlp.up_proj", "feed_forward.w3", "ffn_up"],
    ["mlp.down_proj", "feed_forward.w2", "ffn_down"],
];

/// As [`IN_LAYER`], outside of the layers.
const OUTSIDE: [[&str; 3]; 3] = [
    ["model.embed_tokens", "tok_embeddings", "token_embd"],
    ["model.norm", "norm", "output_norm"],
    ["lm_head", "output", "output"],
];

/// The beginnings of the names of a vision model's tensors, beside a language model.
const VISION: [&str; 8] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "vision_encoder.",
    "vision_language_adapter.",
    "patch_merger.",
    "pre_mm_projector_norm.",
];

impl Naming {
    /// How a checkpoint of this config names its tensors.
    pub fn of(config: &MistralConfig, weights: &Weights) -> Self {
        let begins = |prefix: &str| weights.names().any(|name| name.starts_with(prefix));
        match () {
            () if weights.gguf().is_some() => Self::Gguf { interleaved: config.is_interleaved_in_gguf() },
            () if begins("tok_embeddings.") => Self::Native,
            () if begins("language_model.model.") => Self::Wrapped,
            () if begins("model.language_model.") => Self::WrappedInside,
            () => Self::HuggingFace,
        }
    }

    /// The name in the checkpoint of a tensor, given Hugging Face's.
    pub fn stored(self, name: &str) -> String {
        match self {
            Self::HuggingFace => name.to_owned(),
            Self::Wrapped => format!("language_model.{name}"),
            Self::WrappedInside => match name.strip_prefix("model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => name.to_owned(),
            },
            Self::Native => renamed(name, 1, "layers"),
            Self::Gguf { .. } => renamed(name, 2, "blk"),
        }
    }

    /// Whether the rows of q and k are in interleaved pairs.
    pub fn is_interleaved(self) -> bool {
        matches!(self, Self::Native | Self::Gguf { interleaved: true })
    }

    /// Whether a tensor belongs to the vision model beside the language model, and not to the latter.
    pub fn is_of_vision(self, name: &str) -> bool {
        let may_be = matches!(self, Self::Wrapped | Self::WrappedInside | Self::Native);
        may_be && VISION.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Hugging Face's name of a module of a layer (`self_attn.q_proj`), given that of Mistral's own checkpoints
/// (`attention.wq`).
pub fn part_of_native(part: &str) -> Option<&'static str> {
    IN_LAYER.iter().find(|names| names[1] == part).map(|names| names[0])
}

/// The name in Mistral's own checkpoints of a tensor (`layers.0.attention.wq.weight`), given that in Hugging Face's of a
/// language model by itself.
pub fn native_name(name: &str) -> String {
    Naming::Native.stored(name)
}

/// The name in a GGUF of a tensor (`blk.0.attn_q.weight`), given that in Hugging Face's checkpoints of a language model by
/// itself.
pub fn gguf_name(name: &str) -> String {
    renamed(name, 2, "blk")
}

/// Whether the rows of a tensor, given its name in Hugging Face's checkpoints, are rotated: those of q and k, and of their
/// biases.
pub fn is_rotated(name: &str) -> bool {
    name.contains(".q_proj.") || name.contains(".k_proj.")
}

/// The index, in a matrix whose heads have the pairs of the rotation beside each other (`(0, 1), (2, 3), …`), of the row that
/// is `row` where pairs are half a head apart (`(0, half), (1, half + 1), …`).
pub fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, row, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim + 2 * (row % half) + row / half
}

/// A name in the format of a column of the tables above.
fn renamed(name: &str, column: usize, layers: &str) -> String {
    let (place, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let found = |table: &[[&str; 3]], part: &str| {
        table.iter().find(|names| names[0] == part).map_or_else(|| part.to_owned(), |names| names[column].to_owned())
    };
    match place.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
        Some((index, part)) => format!("{layers}.{index}.{}.{kind}", found(&IN_LAYER, part)),
        None => format!("{}.{kind}", found(&OUTSIDE, place)),
    }
}

impl MistralConfig {
    /// Hugging Face's name and the shape of each tensor of the network.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let ends = ["model.embed_tokens.weight", "lm_head.weight"].into_iter();
        let ends = ends.take(2 - usize::from(self.tie_word_embeddings));
        let mut tensors: Vec<(String, Vec<usize>)> =
            ends.map(|name| (name.to_owned(), vec![self.vocab_size, self.hidden_size])).collect();
        tensors.push(("model.norm.weight".to_owned(), vec![self.hidden_size]));
        for (name, dims) in self.layer_dims() {
            let is_biased = match name.rsplit('.').next() {
                Some("q_proj" | "k_proj" | "v_proj") => self.qkv_bias,
                Some("o_proj") => self.o_bias,
                _ => self.mlp_bias,
            };
            tensors.extend(is_biased.then(|| (format!("{name}.bias"), vec![dims[0]])));
            tensors.push((format!("{name}.weight"), dims.to_vec()));
        }
        let mut norms = vec![("input_layernorm", self.hidden_size), ("post_attention_layernorm", self.hidden_size)];
        if self.qk_norm {
            norms.extend([("self_attn.q_norm", self.head_dim), ("self_attn.k_norm", self.head_dim)]);
        }
        for layer in 0..self.num_hidden_layers {
            tensors.extend(
                norms.iter().map(|(norm, width)| (format!("model.layers.{layer}.{norm}.weight"), vec![*width])),
            );
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_the_interleaving() {
        // Two heads of four rows. Pair i of a head is stored in rows 2i and 2i + 1; in half-split layout its rows are i
        // and i + 2.
        let found: Vec<usize> = (0..8).map(|row| interleaved_row(row, 4)).collect();
        assert_eq!(found, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
