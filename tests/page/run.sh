#!/usr/bin/env bash
# Renders the pages of the example reports in headless Chromium, scripts off, and looks at them: see check.py.
#
#     tests/page/run.sh [TOOL] [PICTURES]
#
# TOOL makes a page from a report (by default the built example `page` of foehn-evaluate); the screenshots are written
# to the folder PICTURES. Without Chromium, and where it cannot be installed, nothing is checked.
set -euo pipefail
here="$(dirname "$0")"
tool="${1:-${CARGO_TARGET_DIR:-$here/../../target}/release/examples/page}"
pictures="${2:-}"

find_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }
browser="$(find_browser)"
if [ -z "$browser" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    install="apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
    timeout 300 sh -c "$install" >/dev/null 2>&1 || true
    browser="$(find_browser)"
fi
if [ -z "$browser" ]; then
    echo "no Chromium here, and it cannot be installed: the pages are not checked"
    exit 0
fi
if [ ! -x "$tool" ]; then
    echo "$tool is not there: build it with cargo build --release --workspace --example page" >&2
    exit 1
fi
[ -z "$pictures" ] || mkdir -p "$pictures"
exec python3 "$here/check.py" --browser "$browser" --tool "$tool" ${pictures:+--pictures "$pictures"}
