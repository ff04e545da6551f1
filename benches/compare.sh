#!/usr/bin/env bash
# Foehn and its peers side by side on this machine: speed and memory of training, scoring and generating, as ratios.
#
#     bash benches/compare.sh [RUNS [W1 W2 …]]
#
# Runs each piece of work (all seven, or those named) RUNS times (5 by default) in turn, Foehn and then the peers, and prints
# the medians. W1 to W3 run Foehn in f32 and in bf16, and PEFT as it comes and at its best (matmul medium; bf16; logits for
# supervised rows only). Needs a Python with PyTorch, transformers, PEFT and llama-cpp-python, SmolLM2-135M-Instruct as a Hugging Face
# folder and as a GGUF, and the scripts that run the peers: say where by PEERS_PYTHON, PEERS_MODEL, PEERS_GGUF and
# PEERS_SCRIPTS. Foehn itself needs no Python.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
source benches/peers.sh python model gguf scripts
cargo build --release --quiet --workspace --examples
built=${CARGO_TARGET_DIR:-target}/release/examples
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" benches/compare.py --runs "$runs" --built "$built" --model "$model" --gguf "$gguf" \
    --scripts "$scripts" --work "$work" "${@:2}"
