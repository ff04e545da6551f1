"""Cleans the same shards by `clean` alone and by its three stages under xargs, Ray and Sail, and compares the bytes.

    python tests/interop/scale.py                                   # 200,000 records
    python tests/interop/scale.py --quick                           # 7,000 records, and no speeds
    python tests/interop/scale.py --examples target/release/examples

Seven shards have copies, near-copies and contradictions of each other's records; one shard has no record that is kept. One row per
engine: seconds, and the speed beside the threads of one process. Each engine is also run again over a work folder in which
parts are missing, cut off or of a killed process.

If this Python lacks the packages, they are installed into a fresh environment, for at most ten minutes. Where that can't be done,
the script says so, compares xargs alone and passes: crates/corpus/tests/shards.rs tests the stages everywhere.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCALE = ROOT / "examples/scale"
QUICK = "--quick" in sys.argv
COUNT = 7_000 if QUICK else 200_000
SHARDS = 7
PACKAGES = ["ray==2.60.0", "pysail==0.7.2", "pyspark-client==4.2.0", "pyarrow", "pandas"]
WORDS = """harbour light mast rope wind gull winch stone lantern water tide salt deck cabin captain storm morning evening silver
copper letter street garden window bridge river mountain forest valley summer winter spring autumn music silence bread""".split()


def in_own_environment():
    """Runs this script again in an environment with the packages; returns its exit status, or None."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin/python"
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"Ray and Sail are skipped, the packages can't be installed: {error}")
            return None
        return subprocess.run([python, __file__, *sys.argv[1:]], env=dict(os.environ, FOEHN_INTEROP="1")).returncode


def records(count):
    """Records of every fate; one in eight is a copy of an earlier one or nearly so."""
    draw = random.Random(7)
    text = lambda length: " ".join(draw.choices(WORDS, k=length))  # noqa: E731
    earlier = []
    for number in range(count):
        record = {
            "id": f"r{number}",
            "prompt": f"Describe {text(6)} as number {number} of the list, please.",
            "completion": f"The {text(40)}, and number {number} of them is {text(8)}.",
            "label": draw.choice(["Visual", "Auditory"]),
        }
        fate = draw.random()
        if earlier and fate < 0.05:
            record = dict(draw.choice(earlier), id=f"copy{number}")
        elif earlier and fate < 0.12:
            record = dict(draw.choice(earlier), id=f"near{number}")
            words = record["completion"].split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
            record["completion"] = " ".join(words)
        elif fate < 0.14:
            record.update(prompt=f"Is a {draw.choice(WORDS)} loud?", completion=draw.choice(["Yes", "No"]))
        elif fate < 0.17:
            record["completion"] += f"\nUser: And then?\nAssistant: {text(5)}"
        elif fate < 0.19:
            record["prompt"] = record["prompt"].replace("e", "Ã©", 2)
        else:
            earlier.append(record)
        yield json.dumps(record, ensure_ascii=False)


def write_shards(folder):
    lines = list(records(COUNT))
    shards = []
    for at in range(SHARDS):
        shards.append(folder / f"raw-{at}.jsonl")
        # The last shard is as good as empty: nothing in it is kept.
        some = lines[at * COUNT // (SHARDS - 1) : (at + 1) * COUNT // (SHARDS - 1)] or ["{}"]
        shards[-1].write_text("".join(f"{line}\n" for line in some), encoding="utf-8")
    return shards


def timed(*command, **options):
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command[:4]))} …: {done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - start


def damage(work):
    """What killed processes leave: a part that is absent, one that is cut off, and the folder of one that was being written."""
    shutil.rmtree(work / "part-00001")
    (work / "part-00003/manifest.json").unlink()
    os.truncate(work / "part-00003/records", 100)
    shutil.copytree(work / "part-00002", work / ".partial-killed")
    (work / "part-00004/verdict.json").unlink()
    for file in work.glob("*.jsonl"):
        file.unlink()


def main():
    engines = {"xargs -P2": ["bash", SCALE / "xargs_clean.sh"]}
    try:
        import pyspark.sql.connect  # noqa: F401
        import pysail, ray  # noqa: F401, E401
        engines |= {"Ray": [sys.executable, SCALE / "ray_clean.py"], "Sail": [sys.executable, SCALE / "sail_clean.py"]}
    except ImportError as error:
        if "FOEHN_INTEROP" in os.environ:
            sys.exit(f"the packages are installed and can't be loaded: {error}")
        status = in_own_environment()
        if status is not None:
            return status
    if "--examples" in sys.argv:
        clean = Path(sys.argv[sys.argv.index("--examples") + 1]).resolve() / "clean"
    else:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--example", "clean"], cwd=ROOT, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        clean = target.resolve() / "release/examples/clean"
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shards = write_shards(folder)
        out, report = folder / "whole.jsonl", folder / "whole.report.json"
        whole = min(timed(clean, *shards, "--out", out, "--report", report) for _ in range(1 if QUICK else 3))
        expected = [out.read_bytes(), report.read_bytes()]
        print(f"{COUNT:,} records in {SHARDS} shards; clean with threads: {whole:.1f} s", flush=True)
        for name, command in engines.items():
            seconds = []
            for run in ["the first run", "again after a kill"] if QUICK else ["the first run"] * 3 + ["again after a kill"]:
                work, own = folder / name.replace(" ", ""), folder / "own.jsonl"
                if run == "the first run":
                    shutil.rmtree(work, ignore_errors=True)
                else:
                    damage(work)
                took = timed(*command, clean, work, own, *shards)
                if run == "the first run":
                    seconds.append(took)
                if [own.read_bytes(), (work / "report.json").read_bytes()] != expected:
                    failed += 1
                    print(f"{name}, {run}: other bytes")
                own.unlink()
            # The rest is the start of the engine, which does not grow with the set.
            print(f"{name}: {min(seconds):.1f} s, {whole / min(seconds):.2f} of the threads' speed", flush=True)
            shutil.rmtree(folder / name.replace(" ", ""))
    print("all bytes are equal" if failed == 0 else f"{failed} runs have other bytes")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
