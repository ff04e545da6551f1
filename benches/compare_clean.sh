#!/usr/bin/env bash
# Cleaning beside plain Python: one generated file of chat records with planted dirt, one core for each, one run.
# Prints what each rejects and repairs of what was planted, whether what they keep is the same, the records a second of both,
# and their peak memory. benches/compare_clean.py is the Python side, written as one would write it for the job; encoding is
# repaired by ftfy, and by neither where it cannot be installed.
#   benches/compare_clean.sh [RECORDS]
set -euo pipefail
cd "$(dirname "$0")/.."
records=${1:-200000}
peers="${FOEHN_PEERS:-$HOME/.cache/foehn-peers}/clean"
if [ ! -x "$peers/venv/bin/python" ]; then
    mkdir -p "$peers"
    python3 -m venv "$peers/venv"
fi
python="$peers/venv/bin/python"
"$python" -c "import ftfy" 2>/dev/null || "$peers/venv/bin/pip" install -q "ftfy==6.3.1" ||
    echo "ftfy cannot be installed: mojibake is neither planted nor repaired"

clean="${FOEHN_CLEAN:-}"
if [ -z "$clean" ]; then
    cargo build --release --example clean
    clean="${CARGO_TARGET_DIR:-target}/release/examples/clean"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The first core is as good as any, as long as it is the same for both.
pin() { if command -v taskset >/dev/null; then taskset -c 0 "$@"; else "$@"; fi; }
"$python" benches/compare_clean.py generate "$work" "$records"
ls -l "$work/raw.jsonl" | awk '{printf "%d bytes\n", $5}'
printf 'load average before: %s\n' "$(cut -d" " -f1-3 /proc/loadavg)"
pin "$python" benches/compare_clean.py run "$work" "$clean"
printf 'load average after: %s\n' "$(cut -d" " -f1-3 /proc/loadavg)"
"$python" benches/compare_clean.py compare "$work" "$records"
