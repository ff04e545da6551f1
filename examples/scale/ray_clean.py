"""Cleans shards under Ray: every stage is a command, and Ray only says where it runs.

    pip install ray
    python examples/scale/ray_clean.py target/release/examples/clean WORK out.jsonl raw/*.jsonl

On a cluster, WORK is a folder that all machines share, and `ray.init(address="auto")` finds the machines. A command that
was killed with its machine is simply run again: a part appears whole or not at all.
"""

import os
import subprocess
import sys
from pathlib import Path

import ray


@ray.remote(num_cpus=1, max_retries=3)
def run(*command):
    subprocess.run([str(word) for word in command], check=True)


def main(clean, work, out, *shards):
    passes = os.environ.get("CLEAN_ARGS", "").split()
    work = Path(work).resolve()
    parts = [work / f"part-{at:05}" for at in range(len(shards))]
    files = [work / f"clean-{at:05}.jsonl" for at in range(len(shards))]
    work.mkdir(parents=True, exist_ok=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=True)
    map_stage = [run.remote(clean, "map", *passes, "--threads", 1, "--part", part, os.path.abspath(shard))
                 for part, shard in zip(parts, shards)]
    ray.get(map_stage)
    ray.get(run.remote(clean, "judge", *passes, "--report", work / "report.json", *parts))
    ray.get([run.remote(clean, "write", "--out", file, part) for part, file in zip(parts, files)])
    with open(out, "wb") as whole:
        for file in files:
            whole.write(file.read_bytes())


main(*sys.argv[1:])
