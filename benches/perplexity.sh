#!/usr/bin/env bash
# What the rounding of decoding costs: the perplexity of English prose under each form of the base, exact (`score`) and as
# decoding computes it, token by token and rounded (`score --decode`).
#
#     bash benches/perplexity.sh [ROWS]
#
# ROWS rows (24 by default) of 512 tokens of the Python reference's prose, which every CPython carries, its examples and grammars
# left out. The GGUF is measured as it is stored, and in other types that llama.cpp makes of it; the other forms are made on
# loading. Needs a Python with transformers and llama-cpp-python, SmolLM2-135M-Instruct as a Hugging Face folder and its GGUF,
# as benches/compare.sh does.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${1:-24}
source benches/peers.sh python model gguf
cargo build --release --quiet --example score
score=${CARGO_TARGET_DIR:-target}/release/examples/score
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

HF_HUB_OFFLINE=1 "$python" - "$model" "$rows" >"$work/rows.jsonl" <<'PYTHON'
import json, sys
from pydoc_data.topics import topics
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
prose = []
for name in sorted(topics):
    for paragraph in topics[name].split("\n\n"):
        lines = paragraph.split("\n")
        if len(paragraph) > 200 and not any(line.startswith("  ") or "::=" in line for line in lines):
            prose.append(" ".join(lines))
ids = tokenizer("\n\n".join(prose), verbose=False)["input_ids"]
rows = [ids[at:at + 512] for at in range(0, len(ids) - 511, 512)][: int(sys.argv[2])]
for row in rows:
    print(json.dumps({"input_ids": row}))
PYTHON

perplexity() { "$score" "$@" <"$work/rows.jsonl" | "$python" -c '
import json, math, sys
found = [value for line in sys.stdin for value in json.loads(line)]
print(len(found), math.exp(-sum(found) / len(found)))'; }

printf '%-24s %10s %10s %10s %12s\n' base tokens exact rounded difference
row() {
    local name=$1
    shift
    read -r tokens exact <<<"$(perplexity "$@")"
    read -r _ rounded <<<"$(perplexity --decode "$@")"
    "$python" -c 'import sys
name, tokens, exact, rounded = sys.argv[1], *map(float, sys.argv[2:])
print(f"{name:24} {tokens:10.0f} {exact:10.3f} {rounded:10.3f} {100 * (rounded / exact - 1):+11.2f}%")' \
        "$name" "$tokens" "$exact" "$rounded"
}
row "stored (Q4_1, head Q8_0)" --model "$gguf"
for type in Q4_0 Q5_0 Q5_1 Q4_K_M Q5_K_M Q6_K; do
    "$python" - "$gguf" "$work/$type.gguf" "$type" 2>"$work/log" <<'PYTHON' || { cat "$work/log" >&2; exit 1; }
import sys
import llama_cpp as lib

stored, made, name = sys.argv[1:]
params = lib.llama_model_quantize_default_params()
params.ftype = getattr(lib, f"LLAMA_FTYPE_MOSTLY_{name}")
params.allow_requantize = True
failed = lib.llama_model_quantize(stored.encode(), made.encode(), params)
sys.exit(f"llama.cpp cannot make {name}: {failed}" if failed else 0)
PYTHON
    row "GGUF $type" --model "$work/$type.gguf"
    rm "$work/$type.gguf"
done
for base in bf16 q8_0 q4_k nf4; do
    row "$base" --model "$model" --base "$base"
done
