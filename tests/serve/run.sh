#!/usr/bin/env bash
# The example `serve` as its users meet it: OpenAI's own clients, the page in a browser, many clients at once.
#
#     tests/serve/run.sh target/release/examples [SECONDS OF LOAD]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
examples="${1:?the folder of the built examples is missing}" seconds="${2:-600}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
# Two adapters of random numbers.
PYTHONDONTWRITEBYTECODE=1 python3 - "$here" "$folder" <<'PYTHON'
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import speed
speed.fresh_adapters(pathlib.Path(sys.argv[2]), speed.SMOLLM2, 2, 8)
PYTHON
adapters=(--adapter "one=$folder/a0" --adapter "two=$folder/a1")

"$examples/serve" --port 0 "${adapters[@]}" --lexicon "$here/../../datasets/vakog/lexicon.json" >"$folder/out" &
server=$!
until grep -q "listening on" "$folder/out"; do
    kill -0 "$server" || { echo "the server has ended" >&2; exit 1; }
    sleep 0.1
done
address="$(sed -n 's/^listening on //p' "$folder/out")"
python3 "$here/../interop/openai_clients.py" --server "$address"
bash "$here/../serve_page/run.sh" "$address"
kill -TERM "$server"
wait "$server" || { echo "the server ended with $?" >&2; exit 1; }

PYTHONDONTWRITEBYTECODE=1 python3 "$here/load.py" --serve "$examples/serve" "${adapters[@]}" --seconds "$seconds" \
    --clients "$((seconds < 200 ? 60 : 200))"
