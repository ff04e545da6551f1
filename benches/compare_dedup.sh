#!/usr/bin/env bash
# Near-duplicates beside text-dedup (PyPI): the same 200,000 texts, the same 5 words and 0.7, one core for each, one run.
# Prints the records a second of both by their own clocks (without the start of Python), how many times as long text-dedup
# takes by those and by the time of the processor (with the start, but without what else the machine does), and the
# precision and recall of both on the planted near-duplicates. Either record of a pair may go: text-dedup does not always
# keep the first.
#   benches/compare_dedup.sh [COUNT]
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-200000}
version=0.4.0
peers="${FOEHN_PEERS:-$HOME/.cache/foehn-peers}/dedup"
if [ ! -x "$peers/venv/bin/python" ]; then
    mkdir -p "$peers"
    python3 -m venv "$peers/venv"
fi
python="$peers/venv/bin/python"
"$python" -c "import importlib.metadata as m; assert m.version('text-dedup') == '$version'" 2>/dev/null ||
    "$peers/venv/bin/pip" install -q "text-dedup==$version"

ours="${FOEHN_NEAR_DUPLICATES:-}"
if [ -z "$ours" ]; then
    ours=$(cargo bench --bench near_duplicates --no-run --message-format=json |
        "$python" -c 'import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("executable") and made["target"]["name"] == "near_duplicates": print(made["executable"])')
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$ours" generate "$work/texts.jsonl" "$work/truth.tsv" "$count"
ls -l "$work/texts.jsonl" | awk '{printf "%d bytes of text\n", $5}'
# The first core is as good as any, as long as it is the same for both.
pin() { if command -v taskset >/dev/null; then taskset -c 0 "$@"; else "$@"; fi; }
# The seconds of the processor, all of its user and system time, the start included, stand in $work/cpu.
TIMEFORMAT='%U %S'
logged() { { time "$@" >"$work/log" 2>&1; } 2>"$work/cpu" || { cat "$work/log" >&2; return 1; }; }
cpu() { awk '{ print $1 + $2 }' "$work/cpu"; }

printf 'load average before: %s\n' "$(cut -d" " -f1-3 /proc/loadavg)"
logged pin "$ours" dedup "$work/texts.jsonl" "$work/ours.jsonl"
ours_s="$(sed -n 's/.* in \([0-9.]*\) s$/\1/p' "$work/log") $(cpu)"
# Wide enough that its log breaks no line.
export COLUMNS=200
export HF_HOME="$work/hf" HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
theirs() { # $1: a name, the rest: options
    local name=$1; shift
    logged pin "$python" -m text_dedup.minhash --path json --data_files "$work/texts.jsonl" --split train \
        --cache_dir "$work/cache-$name" --output "$work/$name" --column text --batch_size 10000 --num_proc 1 \
        --ngram 5 --threshold 0.7 --min_length 5 "$@"
    echo "$(sed -n 's/.*Total *: *\([0-9.]*\)s.*/\1/p' "$work/log") $(cpu)"; }
default_s=$(theirs default)
fastest_s=$(theirs fastest --hash_func xxh3 --hash_bits 32)
printf 'load average after: %s\n' "$(cut -d" " -f1-3 /proc/loadavg)"

"$python" - "$work" "$count" "$ours_s" "$default_s" "$fastest_s" <<'PY'
import json, os, sys
from datasets import load_from_disk
work, count = sys.argv[1], int(sys.argv[2])
both = (tuple(map(float, pair.split())) for pair in sys.argv[3:])
times = dict(zip(("foehn", "text-dedup", "text-dedup, xxh3, 32 bits"), both))
truth = [line.split() for line in open(os.path.join(work, "truth.tsv"))]
near = {(int(at), int(original)): float(index) for at, original, index in truth}
positive = {pair for pair, index in near.items() if index >= 0.7}
hard = {pair for pair in positive if near[pair] < 0.75}
kept = {"foehn": {int(json.loads(line)["id"]) for line in open(os.path.join(work, "ours.jsonl"))}}
for name, folder in (("text-dedup", "default"), ("text-dedup, xxh3, 32 bits", "fastest")):
    kept[name] = set(map(int, load_from_disk(os.path.join(work, folder))["id"]))
print(f"{count} records, {len(near)} edits, {len(positive)} of them at a Jaccard index of 0.7 or more ({len(hard)} below 0.75)")
print(f"{'':<28}{'seconds':>9}{'CPU s':>8}{'records/s':>11}{'precision':>11}{'recall':>9}{'at 0.70-0.75':>14}{'times':>8}{'by CPU':>8}")
for name, (seconds, cpu) in times.items():
    removed = set(range(count)) - kept[name]
    found = lambda pairs: sum(1 for pair in pairs if removed & set(pair))
    # Of a pair one has to stay: who goes without it, goes wrongly.
    precision = found(positive) / max(1, len(removed))
    recall, at_edge = found(positive) / len(positive), found(hard) / max(1, len(hard))
    print(f"{name:<28}{seconds:>9.1f}{cpu:>8.1f}{count / seconds:>11.0f}{precision:>11.4f}{recall:>9.4f}{at_edge:>14.4f}{seconds / times['foehn'][0]:>8.1f}{cpu / times['foehn'][1]:>8.1f}")
PY
