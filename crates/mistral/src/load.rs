//! Builds a model from named tensors.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use foehn_kernels::{HalfKind, NF4_LEVELS, Row, Weight};
use foehn_weights::{DType, Planes, Weights, unpack};

use crate::base::Form;
use crate::checkpoint::ROPE_FREQS;
use crate::naming::{Naming, interleaved_row};
use crate::projection::frozen;
use crate::{Base, Checkpoint, DecoderLayer, Error, Mistral, MistralConfig, Mlp, Projection, SelfAttention};

impl Mistral {
    /// Loads the weights of a checkpoint onto a device, in their stored format.
    ///
    /// The tensors may have Hugging Face's names, with the prefix of a wrapper or without, those of Mistral's own
    /// checkpoints, or those of a GGUF. Where a format interleaves the rows of q and k, they are permuted to half-split.
    ///
    /// If the config ties the head to the embedding but the checkpoint has a different `lm_head.weight`, the head is
    /// used, as in transformers 5.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or broken, [`Error::Shape`] if a tensor does not fit the config,
    /// [`Error::UnusedTensors`] if the checkpoint has tensors that the network does not use.
    pub fn load(config: &MistralConfig, weights: &Weights, device: &Device) -> Result<Self, Error> {
        Self::load_as(config, weights, Base::Stored, device, &mut |_, _| ())
    }

    /// As [`load`](Self::load), but converts the matrices to another storage format, one at a time while they are read.
    /// `progress` gets the number of parts that are done and the number of all parts: each layer is one part, and
    /// embedding and head together are one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(
        config: &MistralConfig,
        weights: &Weights,
        base: Base,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let checkpoint = Checkpoint::new(config, weights)?;
        build(checkpoint.config(), &Stored { weights, naming: checkpoint.naming(), base, device }, progress)
    }

    /// The config of a checkpoint: from a GGUF's metadata, or from the text of the `config.json` beside safetensors.
    ///
    /// # Errors
    /// Those of [`MistralConfig::from_gguf`] and [`MistralConfig::from_json`].
    pub fn config_of(weights: &Weights, config_json: Option<&str>) -> Result<MistralConfig, Error> {
        match (weights.gguf(), config_json) {
            (Some(gguf), _) => {
                let rows = weights.info("token_embd.weight").and_then(|info| info.shape.first().copied());
                let tied = weights.info("output.weight").is_none();
                let mut config = MistralConfig::from_gguf(gguf, tied, rows.unwrap_or(0), |part| {
                    weights.info(&format!("blk.0.{part}")).is_some()
                })?;
                if weights.info(ROPE_FREQS).is_some() {
                    config.scale_frequencies(&weights.load_f32(ROPE_FREQS)?.0)?;
                }
                Ok(config)
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

/// A source of a model's tensors. Names of matrices and norms are those of Hugging Face's checkpoints without
/// `.weight`.
pub(crate) trait Tensors {
    /// A matrix `[out, in]`. If its output is rotated (RoPE), `rotated` is the width of a head.
    fn matrix(&self, name: &str, shape: [usize; 2], rotated: Option<usize>) -> Result<Weight, Error>;
    /// The weight of a norm, or the bias of a projection, whose name ends in `.bias`.
    fn vector(&self, name: &str, width: usize, rotated: Option<usize>) -> Result<Param<Tensor<1>>, Error>;
}

/// Builds a model from the tensors that the config needs. Embedding and head come first: they are the largest, and
/// building them takes the most temporary memory, so this happens while nothing else is loaded.
pub(crate) fn build(
    config: &MistralConfig,
    source: &impl Tensors,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Mistral, Error> {
    let MistralConfig { hidden_size, vocab_size, num_hidden_layers, .. } = *config;
    let parts = num_hidden_layers + 1;
    let embed_tokens = source.matrix("model.embed_tokens", [vocab_size, hidden_size], None)?;
    let lm_head = match config.tie_word_embeddings {
        true => None,
        false => Some(source.matrix("lm_head", [vocab_size, hidden_size], None)?),
    };
    progress(1, parts);
    let layers = (0..num_hidden_layers).map(|index| {
        let layer = layer(config, source, index)?;
        progress(index + 2, parts);
        Ok(layer)
    });
    Ok(Mistral {
        embed_tokens,
        layers: layers.collect::<Result<_, Error>>()?,
        norm: source.vector("model.norm", hidden_size, None)?,
        lm_head,
        config: config.clone(),
        recompute: false,
    })
}

fn layer(config: &MistralConfig, source: &impl Tensors, index: usize) -> Result<DecoderLayer, Error> {
    let MistralConfig { hidden_size, intermediate_size, head_dim, .. } = *config;
    let (queries, keys) = (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
    let name = |part: &str| format!("model.layers.{index}.{part}");
    let projection = |part: &str, shape: [usize; 2], rotated: Option<usize>, is_biased: bool| {
        let bias = is_biased.then(|| source.vector(&format!("{}.bias", name(part)), shape[0], rotated)).transpose()?;
        Ok::<_, Error>(Projection::new(source.matrix(&name(part), shape, rotated)?).with_bias(bias))
    };
    let norm = |part: &str, width: usize| source.vector(&name(part), width, None);
    let (qkv, mlp) = (config.qkv_bias, config.mlp_bias);
    Ok(DecoderLayer {
        input_layernorm: norm("input_layernorm", hidden_size)?,
        self_attn: SelfAttention {
            q_proj: projection("self_attn.q_proj", [queries, hidden_size], Some(head_dim), qkv)?,
            k_proj: projection("self_attn.k_proj", [keys, hidden_size], Some(head_dim), qkv)?,
            v_proj: projection("self_attn.v_proj", [keys, hidden_size], None, qkv)?,
            o_proj: projection("self_attn.o_proj", [hidden_size, queries], None, config.o_bias)?,
            head_norms: match config.qk_norm {
                true => Some([norm("self_attn.q_norm", head_dim)?, norm("self_attn.k_norm", head_dim)?]),
                false => None,
            },
            head_dim,
            is_rotated: config.is_rotated(index),
            is_windowed: config.is_windowed(index),
        },
        post_attention_layernorm: norm("post_attention_layernorm", hidden_size)?,
        mlp: Mlp {
            gate_proj: projection("mlp.gate_proj", [intermediate_size, hidden_size], None, mlp)?,
            up_proj: projection("mlp.up_proj", [intermediate_size, hidden_size], None, mlp)?,
            down_proj: projection("mlp.down_proj", [hidden_size, intermediate_size], None, mlp)?,
        },
        rms_norm_eps: config.rms_norm_eps,
    })
}

/// The tensors of a checkpoint.
struct Stored<'a> {
    weights: &'a Weights,
    naming: Naming,
    base: Base,
    device: &'a Device,
}

impl Tensors for Stored<'_> {
    /// Where the format interleaves the rows of a rotated output, this permutes them to half-split.
    fn matrix(&self, name: &str, shape: [usize; 2], rotated: Option<usize>) -> Result<Weight, Error> {
        match rotated.filter(|_| self.naming.is_interleaved()) {
            Some(head_dim) => self.permuted(name, shape, |row| interleaved_row(row, head_dim)),
            None => self.permuted(name, shape, |row| row),
        }
    }

    fn vector(&self, name: &str, width: usize, rotated: Option<usize>) -> Result<Param<Tensor<1>>, Error> {
        let name = if name.ends_with(".bias") { name.to_owned() } else { format!("{name}.weight") };
        let mut values = self.weights.load_f32(&self.stored_name(&name, &[width])?)?.0;
        if let Some(head_dim) = rotated.filter(|_| self.naming.is_interleaved()) {
            values = (0..width).map(|at| values[interleaved_row(at, head_dim)]).collect();
        }
        Ok(frozen(Tensor::from_data(TensorData::new(values, [width]), self.device)))
    }
}

impl Stored<'_> {
    /// A matrix whose row `r` is the stored row `stored(r)`.
    fn permuted(&self, name: &str, shape: [usize; 2], stored: impl Fn(usize) -> usize + Sync) -> Result<Weight, Error> {
        let [out, input] = shape;
        let stored_name = self.stored_name(&format!("{name}.weight"), &shape)?;
        let dtype = self.weights.info(&stored_name).map(|info| info.dtype);
        let form = self.base.form(name, dtype.unwrap_or(DType::F32), input);
        if let (Form::Same(encoding), Some(dtype)) = (form, dtype) {
            let bytes = self.weights.read_blocks(&stored_name)?;
            let len = bytes.len() / out.max(1);
            return Ok(Weight::quantised(encoding, shape, self.device, |row, to| {
                unpack(dtype, &bytes[stored(row) * len..][..len], &mut planes(to));
            }));
        }
        if let (Form::Half(kind), Some(DType::F16 | DType::BF16)) = (form, dtype) {
            let bytes = self.weights.read(&stored_name)?;
            check_halves(&stored_name, kind, &bytes)?;
            return Ok(Weight::half(kind, shape, self.device, |row, to| {
                to.copy_from_slice(&bytes[2 * stored(row) * input..][..2 * input]);
            }));
        }
        let mut values = self.weights.load_f32(&stored_name)?.0;
        let fits = |value: &f32| match form {
            Form::Half(_) => half::bf16::from_f32(*value).is_finite(),
            Form::Made(quantization, _) => value.abs() <= quantization.largest(),
            Form::Full | Form::Same(_) => true,
        };
        if let Some(index) = values.iter().position(|value| !fits(value)) {
            return Err(Error::TooLarge { name: stored_name, index, value: values[index], base: self.base });
        }
        let row_of = |row: usize| stored(row) * input..(stored(row) + 1) * input;
        Ok(match form {
            Form::Half(_) => Weight::half(HalfKind::Bf16, shape, self.device, |row, to| {
                for (to, value) in to.as_chunks_mut().0.iter_mut().zip(&values[row_of(row)]) {
                    *to = half::bf16::from_f32(*value).to_le_bytes();
                }
            }),
            Form::Made(quantization, encoding) => Weight::quantised(encoding, shape, self.device, |row, to| {
                quantization.quantize(&values[row_of(row)], &NF4_LEVELS, &mut planes(to));
            }),
            Form::Full | Form::Same(_) => {
                if (0..out).any(|row| stored(row) != row) {
                    values = (0..out).flat_map(|row| values[row_of(row)].iter().copied()).collect();
                }
                Weight::new(values, shape, self.device)
            }
        })
    }

    /// The name of a tensor in the checkpoint. Checks its shape.
    fn stored_name(&self, name: &str, expected: &[usize]) -> Result<String, Error> {
        let name = self.naming.stored(name);
        match self.weights.info(&name) {
            Some(info) if info.shape != expected => {
                Err(Error::Shape { name, found: info.shape.clone(), expected: expected.to_vec() })
            }
            _ => Ok(name),
        }
    }
}

/// Refuses 16-bit values that are not finite: those with all exponent bits set.
fn check_halves(name: &str, kind: HalfKind, bytes: &[u8]) -> Result<(), Error> {
    let exponent = match kind {
        HalfKind::Bf16 => 0x7F80,
        HalfKind::F16 => 0x7C00,
    };
    let is_not_finite = |pair: &[u8; 2]| u16::from_le_bytes(*pair) & exponent == exponent;
    match bytes.as_chunks().0.iter().position(is_not_finite) {
        Some(index) => Err(Error::NotFinite { name: name.to_owned(), index }),
        None => Ok(()),
    }
}

/// Converts between the types that the two crates have for the same planes.
fn planes(row: Row<'_>) -> Planes<'_> {
    let Row { numbers, scales, minima, sub_scales, sub_minima } = row;
    Planes { numbers, scales, minima, sub_scales, sub_minima }
}
