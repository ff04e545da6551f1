#!/usr/bin/env bash
# Runs the walks of docs/guide.md: the indented commands of its first two parts, in their order, and looks at what they say.
# With EXAMPLES, the folder of built examples, nothing is built.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf runs/tickets runs/attempts
commands=$(sed -n '/^## A walk/,/^## 1\. Clean/p' docs/guide.md | sed -n 's/^    //p')
if [ -n "${EXAMPLES:-}" ]; then
    commands=$(sed "s|cargo run --release --example \([a-z]*\) --|$EXAMPLES/\1|" <<<"$commands")
fi
said=$(bash -euo pipefail -c "$commands" 2>&1 | tee >(cat >&2))
expect() { grep -Eq "$1" <<<"$said" || { echo "the walk does not say: $1" >&2; exit 1; }; }
expect 'judged by its label \(first-line\): account, billing, shipping, technical'
expect '^answers: better: accuracy'
expect '^general: questions: '
expect '^420 records read, 420 kept'
expect '^420 records read, 133 kept'
# The model that learned from answers that go on talks to itself; the one that learned from the clean ones does not.
expect 'go on to a further question  +0\.000  +0\.[1-9][0-9]+  +0\.000'
expect '^production, after: better: in the asked class alone'
for file in tickets/clean.html tickets/report.html tickets/run/adapter/adapter_model.safetensors tickets/run/report.html \
    attempts/clean.html attempts/report.html; do
    [ -s "runs/$file" ] || { echo "the walk made no runs/$file" >&2; exit 1; }
done
