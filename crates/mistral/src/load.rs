//! Named tensors to modules.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use foehn_kernels::Weight;
use foehn_weights::Weights;

use crate::projection::frozen;
use crate::{DecoderLayer, Error, Mistral, MistralConfig, Mlp, Projection, SelfAttention};

impl Mistral {
    /// Loads the weights of a checkpoint, in f32, onto a device.
    ///
    /// Takes Hugging Face's names, and those of a GGUF (whose q and k are permuted back to half-split).
    ///
    /// # Errors
    /// [`Error::Weights`] where a tensor is missing or broken, [`Error::Shape`] where one does not fit the config.
    pub fn load(config: &MistralConfig, weights: &Weights, device: &Device) -> Result<Self, Error> {
        let source = Source { weights, gguf: weights.gguf().is_some(), device };
        let MistralConfig { hidden_size, vocab_size, .. } = *config;
        let layers =
            (0..config.num_hidden_layers).map(|index| source.layer(config, index)).collect::<Result<_, _>>()?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(source.matrix("lm_head", [vocab_size, hidden_size])?),
        };
        Ok(Self {
            embed_tokens: source.matrix("model.embed_tokens", [vocab_size, hidden_size])?,
            layers,
            norm: source.norm("model.norm", hidden_size)?,
            lm_head,
            config: config.clone(),
            recompute: false,
        })
    }

    /// The config of a checkpoint: a GGUF's metadata, or the text of the `config.json` beside safetensors.
    ///
    /// # Errors
    /// Those of [`MistralConfig::from_gguf`] and [`MistralConfig::from_json`].
    pub fn config_of(weights: &Weights, config_json: Option<&str>) -> Result<MistralConfig, Error> {
        match (weights.gguf(), config_json) {
            (Some(gguf), _) => {
                let rows = weights.info("token_embd.weight").and_then(|info| info.shape.first().copied());
                MistralConfig::from_gguf(gguf, weights.info("output.weight").is_none(), rows.unwrap_or(0))
            }
            (None, Some(text)) => MistralConfig::from_json(text),
            (None, None) => Err(Error::ConfigField {
                field: "config.json".into(),
                found: "nothing".into(),
                expected: "a file beside the weights".into(),
            }),
        }
    }
}

struct Source<'a> {
    weights: &'a Weights,
    gguf: bool,
    device: &'a Device,
}

impl Source<'_> {
    fn layer(&self, config: &MistralConfig, index: usize) -> Result<DecoderLayer, Error> {
        let d_model = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, out: usize, input: usize| self.matrix(&name(part), [out, input]).map(Projection::new);
        let norm = |part: &str| self.norm(&name(part), d_model);
        Ok(DecoderLayer {
            input_layernorm: norm("input_layernorm")?,
            self_attn: SelfAttention {
                q_proj: self.rotated(&name("self_attn.q_proj"), [queries, d_model], config.head_dim)?,
                k_proj: self.rotated(&name("self_attn.k_proj"), [keys, d_model], config.head_dim)?,
                v_proj: linear("self_attn.v_proj", keys, d_model)?,
                o_proj: linear("self_attn.o_proj", d_model, queries)?,
                head_dim: config.head_dim,
            },
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp {
                gate_proj: linear("mlp.gate_proj", config.intermediate_size, d_model)?,
                up_proj: linear("mlp.up_proj", config.intermediate_size, d_model)?,
                down_proj: linear("mlp.down_proj", d_model, config.intermediate_size)?,
            },
            rms_norm_eps: config.rms_norm_eps,
        })
    }

    /// A projection whose output is turned by the rotary embedding: interleaved in a GGUF, half-split here.
    fn rotated(&self, name: &str, shape: [usize; 2], head_dim: usize) -> Result<Projection, Error> {
        let mut values = self.values(name, &shape)?;
        if self.gguf {
            values = half_split(&values, shape[1], head_dim);
        }
        Ok(Projection::new(Weight::new(values, shape, self.device)))
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Weight, Error> {
        Ok(Weight::new(self.values(name, &shape)?, shape, self.device))
    }

    fn norm(&self, name: &str, width: usize) -> Result<Param<Tensor<1>>, Error> {
        let values = self.values(name, &[width])?;
        Ok(frozen(Tensor::from_data(TensorData::new(values, [width]), self.device)))
    }

    fn values(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        let name = if self.gguf { gguf_name(name) } else { format!("{name}.weight") };
        if let Some(info) = self.weights.info(&name)
            && info.shape != expected
        {
            return Err(Error::Shape { name, found: info.shape.to_vec(), expected: expected.to_vec() });
        }
        Ok(self.weights.load_f32(&name)?.0)
    }
}

/// Rows of each head from interleaved pairs `(0, 1), (2, 3), …` to half-split pairs `(0, half), (1, half + 1), …`.
fn half_split(values: &[f32], columns: usize, head_dim: usize) -> Vec<f32> {
    let half = head_dim / 2;
    values
        .chunks_exact(head_dim * columns)
        .flat_map(|head| {
            (0..head_dim).flat_map(move |row| {
                let from = 2 * (row % half) + row / half;
                head[from * columns..(from + 1) * columns].iter().copied()
            })
        })
        .collect()
}

/// llama.cpp's name for a tensor of Hugging Face's.
fn gguf_name(name: &str) -> String {
    let renamed = match name {
        "model.embed_tokens" => "token_embd".to_owned(),
        "model.norm" => "output_norm".to_owned(),
        "lm_head" => "output".to_owned(),
        layered => {
            let rest = layered.strip_prefix("model.layers.").unwrap_or(layered);
            let (index, part) = rest.split_once('.').unwrap_or((rest, ""));
            let part = match part {
                "input_layernorm" => "attn_norm",
                "post_attention_layernorm" => "ffn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                other => other,
            };
            format!("blk.{index}.{part}")
        }
    };
    renamed + ".weight"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_split_undoes_the_interleaving() {
        // Two heads of four rows and one column: row r of a head holds 10·head + r in half-split order.
        let interleaved = [0., 2., 1., 3., 10., 12., 11., 13.];
        assert_eq!(half_split(&interleaved, 1, 4), [0., 1., 2., 3., 10., 11., 12., 13.]);
    }
}
