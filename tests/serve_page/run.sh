#!/usr/bin/env bash
# Uses the page of `foehn serve` in headless Chromium: see check.mjs.
#
#     tests/serve_page/run.sh [--pictures DIR] [--only SCENE,SCENE] [URL]
#
# Without a URL, a mock answers; with one, the scenes that a real server can play are played there (its API key, if it has
# one, is read from FOEHN_API_KEY). Screenshots are written to DIR. playwright-core and axe-core come from npm into a cache
# folder. Where they, Node or Chromium are missing and cannot be installed, nothing is checked.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
peers="${XDG_CACHE_HOME:-$HOME/.cache}/foehn-peers/playwright"
pictures="" url="" only=""
while [ $# -gt 0 ]; do
    case "$1" in
        --pictures) pictures="${2:?a folder is missing}"; shift 2 ;;
        --only) only="${2:?a scene is missing}"; shift 2 ;;
        -*) echo "unknown: $1" >&2; exit 2 ;;
        *) url="$1"; shift ;;
    esac
done

leave() { echo "$1: the page of the server is not checked"; exit 0; }
find_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }
browser="$(find_browser)"
if [ -z "$browser" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    timeout 300 sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium" >/dev/null 2>&1 || true
    browser="$(find_browser)"
fi
[ -n "$browser" ] || leave "no Chromium here, and it cannot be installed"
command -v node >/dev/null || leave "no Node here"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)' || leave "Node is older than 18"
if [ ! -d "$peers/node_modules/playwright-core" ] || [ ! -d "$peers/node_modules/axe-core" ]; then
    mkdir -p "$peers"
    [ -f "$peers/package.json" ] || echo '{ "private": true }' >"$peers/package.json"
    (cd "$peers" && timeout 300 npm install --no-audit --no-fund --silent playwright-core@1 axe-core@4) >/dev/null 2>&1 || true
fi
[ -d "$peers/node_modules/playwright-core" ] || leave "playwright-core is not here, and npm cannot install it"
exec node "$here/check.mjs" --browser "$browser" --peers "$peers" ${url:+--url "$url"} ${only:+--only "$only"} \
    ${pictures:+--pictures "$pictures"}
