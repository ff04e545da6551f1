//! A checkpoint with an adapter merged into it, one tensor at a time.

use std::borrow::Cow;

use foehn_lora::Adapter;
use foehn_mistral::{Checkpoint, MistralConfig, RowOrder, half_split_row, is_rotated};
use foehn_weights::{DType, TensorData};

use crate::Result;

/// A checkpoint and the adapter that is merged into it while its tensors are read: `W + s·B·A`, in single precision.
#[derive(Debug)]
pub struct Merged<'a> {
    checkpoint: Checkpoint<'a>,
    adapter: Option<&'a Adapter>,
}

impl<'a> Merged<'a> {
    /// Checks that the adapter fits the checkpoint. Without one, the checkpoint is written as it is.
    ///
    /// # Errors
    /// Those of [`Adapter::check_config`].
    pub fn new(checkpoint: Checkpoint<'a>, adapter: Option<&'a Adapter>) -> Result<Self> {
        if let Some(adapter) = adapter {
            adapter.check_config(checkpoint.config())?;
        }
        Ok(Self { checkpoint, adapter })
    }

    /// The config of the network.
    pub fn config(&self) -> &MistralConfig {
        self.checkpoint.config()
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint<'a> {
        &self.checkpoint
    }

    /// A tensor, given Hugging Face's name and its shape, to be stored as `dtype`. One that the adapter does not change, and
    /// that the checkpoint has in that type, is taken bit by bit.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if it cannot be read, [`Error::Adapter`](crate::Error::Adapter) if the matrices
    /// do not fit.
    pub fn tensor(&self, name: &str, shape: &[usize], dtype: DType, order: RowOrder) -> Result<TensorData<'static>> {
        let change =
            self.adapter.zip(self.module(name)).filter(|(adapter, module)| adapter.modules.contains_key(module));
        let Some((adapter, module)) = change else {
            // Floats are read and written as floats, exactly: so one that is not finite is found.
            if dtype.block_elements() != 1 && self.checkpoint.dtype(name)? == dtype {
                return Ok(TensorData::Stored(Cow::Owned(self.checkpoint.bytes(name, shape, order)?)));
            }
            return Ok(TensorData::Values(self.checkpoint.load(name, shape, order)?.into()));
        };
        let mut values = self.checkpoint.load(name, shape, RowOrder::HalfSplit)?;
        adapter.add_to(&module, &mut values, shape.last().copied().unwrap_or(1))?;
        if order == RowOrder::Interleaved && is_rotated(name) {
            let (width, head_dim) = (shape[1], self.config().head_dim);
            let row = |row: usize| values[half_split_row(row, head_dim) * width..][..width].iter().copied();
            values = (0..shape[0]).flat_map(row).collect();
        }
        Ok(TensorData::Values(values.into()))
    }

    /// The module that has a tensor as its weight, as adapters name it.
    fn module(&self, name: &str) -> Option<String> {
        Some(self.config().module_name(name.strip_suffix(".weight")?))
    }
}
