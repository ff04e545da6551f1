#!/usr/bin/env bash
# Whether packing samples into a trie changes what is learnt: the losses of the default recipe beside those of the same recipe
# with every sample computed by itself (micro_batch_rows = 1). Prints the largest difference of a step's loss, and the time of
# both.
#
#     bash benches/one_by_one.sh [STEPS]
#
# All steps of the recipe by default.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-0}
cargo build --release --quiet --example finetune
finetune=${CARGO_TARGET_DIR:-target}/release/examples/finetune
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp examples/recipes/vakog.toml "$work/trie.toml"
sed 's/^micro_batch_rows = .*/micro_batch_rows = 1/' "$work/trie.toml" >"$work/alone.toml"
grep -q '^micro_batch_rows = 1$' "$work/alone.toml"
for way in trie alone; do
    "$finetune" --config "$work/$way.toml" --max-steps "$steps" --no-evaluation --out "$work/$way" >&2
done
python3 - "$work/trie/metrics.jsonl" "$work/alone/metrics.jsonl" <<'PYTHON'
import json, sys

together, alone = ([row for row in map(json.loads, open(path)) if "loss" in row] for path in sys.argv[1:])
difference, step = max((abs(a["loss"] - b["loss"]), a["step"]) for a, b in zip(together, alone, strict=True))
for name, rows in [("trie", together), ("one by one", alone)]:
    total = lambda key: sum(row[key] for row in rows)
    print(f"{name:11} {len(rows)} steps  {total('seconds'):6.0f} s  {total('rows'):8} tokens computed  "
          f"last loss {rows[-1]['loss']:.6f}")
print(f"largest difference of a step's loss: {difference:.1e}, in step {step}")
PYTHON
