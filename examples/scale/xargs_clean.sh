#!/usr/bin/env bash
# Cleans shards with two processes of this machine: bash examples/scale/xargs_clean.sh CLEAN WORK OUT SHARDS…
#
# Parts and their files are numbered, so that a pattern names them in the order of the shards. A part that is there is not
# made again: what was killed is finished by the same command. CLEAN_ARGS are arguments of all stages but the last.
set -euo pipefail
clean=$1 work=$2 out=$3
shift 3
mkdir -p "$work"
number=0
for shard in "$@"; do
    part=$(printf '%s/part-%05d' "$work" "$number")
    number=$((number + 1))
    [ -e "$part/manifest.json" ] || printf '%s\0%s\0' "$part" "$shard"
done | xargs -0 -r -n2 -P2 "$clean" map ${CLEAN_ARGS:-} --threads 1 --part
"$clean" judge ${CLEAN_ARGS:-} --report "$work/report.json" "$work"/part-?????
printf '%s\0' "$work"/part-????? | xargs -0 -P2 -I{} "$clean" write --out {}.jsonl {}
cat "$work"/part-?????.jsonl >"$out"
