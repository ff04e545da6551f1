//! Writes a model as a checkpoint in Hugging Face's layout.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;
use foehn_kernels::Weight;
use foehn_weights::{DType, TensorData, TensorSpec, save_safetensors_with};

use crate::{Error, Mistral};

impl Mistral {
    /// Writes `config.json` and `model.safetensors` (f32) into a folder. Each file is replaced atomically. Attached
    /// adapters are not written: merge them first.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Weights`] if writing fails; [`Error::ConfigField`] for rotary frequencies that a
    /// `config.json` cannot express.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        let config = self.config.to_json()?;
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let weights = self.named_weights();
        let dtype = DType::F32;
        let specs: Vec<TensorSpec> = weights
            .iter()
            .map(|(name, weight)| TensorSpec { name: name.clone(), shape: weight.shape(), dtype })
            .collect();
        let weights: BTreeMap<String, Saved> = weights.into_iter().collect();
        let values = |spec: &TensorSpec| -> Result<TensorData<'_>, foehn_weights::Error> {
            Ok(TensorData::Values(Cow::Owned(weights[&spec.name].values())))
        };
        let metadata = [("format".into(), "pt".into())].into();
        save_safetensors_with(&folder.join("model.safetensors"), &specs, &metadata, values)?;
        // Readers look for an index before they look for a single file: an old index would make them load the old
        // shards.
        let index = folder.join("model.safetensors.index.json");
        match fs::remove_file(&index) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&index)(error)),
            _ => {}
        }
        let path = folder.join("config.json");
        let text = format!("{config:#}\n");
        foehn_files::write(&path, text.as_bytes()).map_err(failed(&path))
    }

    /// Every weight under its name in Hugging Face's checkpoints.
    fn named_weights(&self) -> Vec<(String, Saved)> {
        let mut all = vec![
            ("model.embed_tokens.weight".to_owned(), Saved::Matrix(self.embed_tokens.clone())),
            ("model.norm.weight".to_owned(), Saved::Vector(self.norm.val())),
        ];
        for ((_, projection), (name, _)) in self.projections().into_iter().zip(self.config.layer_dims()) {
            all.push((format!("{name}.weight"), Saved::Matrix(projection.weight().clone())));
            all.extend(projection.bias().map(|bias| (format!("{name}.bias"), Saved::Vector(bias.val()))));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let mut norms = vec![
                ("input_layernorm", &layer.input_layernorm),
                ("post_attention_layernorm", &layer.post_attention_layernorm),
            ];
            if let Some([q, k]) = &layer.self_attn.head_norms {
                norms.extend([("self_attn.q_norm", q), ("self_attn.k_norm", k)]);
            }
            let named = |(name, norm): (&str, &Param<Tensor<1>>)| {
                (format!("model.layers.{index}.{name}.weight"), Saved::Vector(norm.val()))
            };
            all.extend(norms.into_iter().map(named));
        }
        all.extend(self.lm_head.iter().map(|head| ("lm_head.weight".to_owned(), Saved::Matrix(head.clone()))));
        all
    }
}

enum Saved {
    Vector(Tensor<1>),
    Matrix(Weight),
}

impl Saved {
    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(tensor) => tensor.dims().to_vec(),
            Self::Matrix(weight) => weight.dims().to_vec(),
        }
    }

    fn values(&self) -> Vec<f32> {
        let data = match self {
            Self::Vector(tensor) => tensor.to_data(),
            Self::Matrix(weight) => weight.to_tensor().into_data(),
        };
        data.try_into_vec().expect("the weights are f32")
    }
}
