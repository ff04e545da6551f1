"""Cleans shards under Spark's API on Sail, without a JVM: a row of a table is a command, and `mapInArrow` runs it.

    pip install pysail pyspark-client pyarrow pandas
    python examples/scale/sail_clean.py target/release/examples/clean WORK out.jsonl raw/*.jsonl
On a cluster, WORK is a folder that all machines share, and the session's address is that of the cluster."""
import os, subprocess, sys
from pathlib import Path

from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession


def run(batches):
    for batch in batches:
        for command in batch.column("command").to_pylist():
            subprocess.run(command.split("\t"), check=True)
        yield batch


def main(clean, work, out, *shards):
    passes, work = os.environ.get("CLEAN_ARGS", "").split(), Path(work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    parts = [work / f"part-{at:05}" for at in range(len(shards))]
    files = [work / f"clean-{at:05}.jsonl" for at in range(len(shards))]
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    spark = SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}").getOrCreate()

    def stage(commands):
        rows = [("\t".join(map(str, command)),) for command in commands]
        spark.createDataFrame(rows, "command string").repartition(2).mapInArrow(run, "command string").collect()

    stage((clean, "map", *passes, "--threads", 1, "--part", *pair) for pair in zip(parts, map(os.path.abspath, shards)))
    stage([(clean, "judge", *passes, "--report", work / "report.json", *parts)])
    stage((clean, "write", "--out", file, part) for part, file in zip(parts, files))
    Path(out).write_bytes(b"".join(file.read_bytes() for file in files))
    spark.stop()
    server.stop()

main(*sys.argv[1:])
