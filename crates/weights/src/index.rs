//! `model.safetensors.index.json`: the shard of each tensor.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::json;

use crate::{Error, Result, text};

pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The model in one file, without an index.
pub(crate) const SINGLE: &str = "model.safetensors";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards in byte order of their names, each with the tensors that the index assigns to it.
///
/// # Errors
/// [`Error::Io`], [`Error::TextTooLarge`], [`Error::Json`], or [`Error::ShardName`] for a shard that is not a plain
/// file name. Shards lie beside their index; a path could make a downloaded file refer to any place on the disk.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let text = text::read(path)?;
    let index: Index = serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, shard) in index.weight_map {
        if !is_plain(&shard) {
            return Err(Error::ShardName { path: path.to_owned(), name, shard });
        }
        shards.entry(shard).or_default().push(name);
    }
    Ok(shards)
}

/// Writes an index, with the number of bytes and of elements of all tensors.
pub(crate) fn write(path: &Path, bytes: u64, elements: u64, weight_map: &BTreeMap<String, String>) -> Result<()> {
    let index = json!({"metadata": {"total_parameters": elements, "total_size": bytes}, "weight_map": weight_map});
    foehn_files::write(path, format!("{index:#}\n").as_bytes()).map_err(|source| Error::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn is_plain(shard: &str) -> bool {
    let mut parts = Path::new(shard).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == shard)
        && !shard.contains(['/', '\\'])
}
