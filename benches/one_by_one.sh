#!/usr/bin/env bash
# Whether packing samples into a trie changes what is learnt: the losses of a whole run of the default recipe, beside those of
# the same run with every sample computed by itself (micro_batch_rows = 1). Prints the largest difference of a step's loss,
# and the time of both.
#
#     bash benches/one_by_one.sh [RUN]
#
# RUN is the folder of a finished run of the default recipe (`runs/vakog`, say); by default one is made.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet --example finetune
finetune=${CARGO_TARGET_DIR:-target}/release/examples/finetune
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run=${1:-$work/trie}
recipe=examples/recipes/vakog.toml
[ -e "$run/metrics.jsonl" ] || "$finetune" --config "$recipe" --no-evaluation --out "$run" >&2
sed 's/^micro_batch_rows = .*/micro_batch_rows = 1/' "$recipe" >"$work/alone.toml"
grep -q '^micro_batch_rows = 1$' "$work/alone.toml"
"$finetune" --config "$work/alone.toml" --no-evaluation --out "$work/alone" >&2
python3 - "$run/metrics.jsonl" "$work/alone/metrics.jsonl" <<'PYTHON'
import json, sys

together, alone = ([row for row in map(json.loads, open(path)) if "loss" in row] for path in sys.argv[1:])
assert len(together) == len(alone), f"{len(together)} steps and {len(alone)}: not the same recipe"
difference, step = max((abs(a["loss"] - b["loss"]), a["step"]) for a, b in zip(together, alone))
for name, rows in [("trie", together), ("one by one", alone)]:
    total = lambda key: sum(row[key] for row in rows)
    print(f"{name:11} {len(rows)} steps  {total('seconds'):6.0f} s  {total('rows'):8} tokens computed  "
          f"last loss {rows[-1]['loss']:.6f}")
print(f"largest difference of a step's loss: {difference:.1e}, in step {step}")
PYTHON
