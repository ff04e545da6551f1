#!/usr/bin/env bash
# Runs the walk of docs/guide.md: the indented commands of its first part, in their order, and looks at what they say.
# With EXAMPLES, the folder of built examples, nothing is built.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf runs/tickets
commands=$(sed -n '/^## A walk/,/^### What the numbers mean/p' docs/guide.md | sed -n 's/^    //p')
if [ -n "${EXAMPLES:-}" ]; then
    commands=$(sed "s|cargo run --release --example \([a-z]*\) --|$EXAMPLES/\1|" <<<"$commands")
fi
said=$(bash -euo pipefail -c "$commands" 2>&1 | tee /dev/stderr)
expect() { grep -Eq "$1" <<<"$said" || { echo "the walk does not say: $1" >&2; exit 1; }; }
expect 'judged by its label \(first-line\): account, billing, shipping, technical'
expect '^answers: better: accuracy'
expect '^general: questions: '
for file in clean.html report.html run/adapter/adapter_model.safetensors run/report.html; do
    [ -s "runs/tickets/$file" ] || { echo "the walk made no runs/tickets/$file" >&2; exit 1; }
done
