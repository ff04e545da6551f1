#!/usr/bin/env python3
"""What llama.cpp makes of the tiny models of `families/` as GGUF files, in `families/gguf/`.

    pip install gguf==0.19.0 llama-cpp-python==0.3.36 numpy safetensors
    python gguf_families.py           # rewrite families/gguf/ beside this file
    python gguf_families.py --check   # exit 1 when a number of it would change

The files have the keys and the order of rows that llama.cpp's converter gives them. The log-probabilities are those of
the text of `families.json`, without the adapter.
"""
import json
import pathlib
import re
import sys

import gguf
import llama_cpp
import numpy
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parent / "families"
# The architecture, and whether the rows of q and k are in interleaved pairs.
FILES = {"llama_biased": ("llama", True), "ministral3": ("mistral3", True), "qwen2": ("qwen2", False),
         "qwen3": ("qwen3", False), "smollm3": ("smollm3", True)}


def interleaved(rows, heads):
    """As `permute` of llama.cpp's converter."""
    return (rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape))


def write(name, architecture, interleaves, path):
    config = json.loads((HERE / name / "config.json").read_text())
    rope = config["rope_parameters"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
        writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH_NAMES_BY_NAME[architecture], config["num_hidden_layers"])
    for key, values in load_file(HERE / name / "model.safetensors").items():
        if interleaves and (".q_proj." in key or ".k_proj." in key):
            values = interleaved(values, heads if ".q_proj." in key else kv_heads)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), numpy.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def log_probs(path, ids):
    f32 = llama_cpp.GGML_TYPE_F32
    model = llama_cpp.Llama(str(path), n_ctx=128, logits_all=True, type_k=f32, type_v=f32, n_threads=1, verbose=False)
    model.eval(ids)
    logits = model.scores[: len(ids) - 1].astype(numpy.float64)
    top = logits.max(-1, keepdims=True)
    found = logits - top - numpy.log(numpy.exp(logits - top).sum(-1, keepdims=True))
    return [float(found[at, next_id]) for at, next_id in enumerate(ids[1:])]


def main():
    gguf.MODEL_ARCH_NAMES_BY_NAME = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    folder = HERE / "gguf"
    folder.mkdir(exist_ok=True)
    runs = json.loads((HERE / "families.json").read_text())["runs"]
    found = {}
    for name, (architecture, interleaves) in FILES.items():
        path = folder / f"{name}.gguf"
        if "--check" not in sys.argv:
            write(name, architecture, interleaves, path)
        ids = runs[name]["input_ids"]
        found[name] = {"input_ids": ids, "log_probs": log_probs(path, ids)}
    path = folder / "gguf.json"
    if "--check" in sys.argv:
        known = json.loads(path.read_text())["runs"]
        same = all(abs(a - b) <= 1e-4 for name, run in found.items()
                   for a, b in zip(run["log_probs"], known[name]["log_probs"], strict=True))
        sys.exit(0 if same else "gguf.json is not what llama.cpp says")
    text = json.dumps({"versions": {"llama_cpp": llama_cpp.__version__}, "runs": found}, indent=1)
    one_line = lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", one_line, text) + "\n")


main()
