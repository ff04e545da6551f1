#!/usr/bin/env python3
"""Compares what `steps --plan` predicts with what `steps` then takes: peak memory, and with --time the time of a step.

    python3 tests/plan/run.py                  # memory of a few small cells: the check of CI
    python3 tests/plan/run.py --all --time     # 24 cells of three shapes, on a machine that does nothing else

A cell that does not fit in the free memory by the plan's own word is left out, and said. The weights are synthetic, in
the shapes of SmolLM2-135M, a 3B model (Ministral 3) and Mistral 7B.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEAK, TIME = 0.05, 0.20

SHAPES = {
    "135M": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                 num_key_value_heads=3, head_dim=64, vocab_size=49152, tie_word_embeddings=True),
    "3B": dict(hidden_size=3072, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=32,
               num_key_value_heads=8, head_dim=128, vocab_size=131072, tie_word_embeddings=True),
    "7B": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=8, head_dim=128, vocab_size=32768, tie_word_embeddings=False),
}

# shape, base, rows a step, tokens a row, micro_batch_rows, r, recompute; and a compute that is not f32
CELLS = [
    ("135M", "f32", 4, 256, 1024, 8, False),
    ("135M", "f32", 4, 256, 256, 64, False),
    ("135M", "f32", 1, 2048, 2048, 64, True),
    ("135M", "bf16", 1, 512, 512, 8, False),
    ("135M", "bf16", 4, 512, 2048, 8, True),
    ("135M", "bf16", 8, 128, 512, 32, False),
    ("135M", "q4_k", 4, 512, 2048, 8, False),
    ("135M", "q4_k", 4, 256, 1024, 64, True),
    ("3B", "f32", 1, 128, 128, 8, False),
    ("3B", "f32", 1, 512, 512, 8, True),
    ("3B", "bf16", 1, 256, 256, 8, False),
    ("3B", "bf16", 1, 256, 256, 64, True),
    ("3B", "bf16", 4, 128, 512, 16, False),
    ("3B", "q4_k", 1, 128, 128, 16, False),
    ("3B", "q4_k", 1, 512, 512, 8, True),
    ("3B", "q4_k", 2, 256, 256, 64, False),
    ("7B", "f32", 1, 128, 128, 8, True),
    ("7B", "bf16", 1, 128, 128, 8, False),
    ("7B", "bf16", 1, 512, 512, 16, True),
    ("7B", "q4_k", 1, 128, 128, 8, False),
    ("7B", "q4_k", 1, 256, 256, 8, False),
    ("7B", "q4_k", 1, 512, 512, 16, True),
    ("7B", "q4_k", 2, 128, 128, 64, True),
    ("7B", "q4_k", 4, 128, 512, 8, False),
]
# For CI: both ways of storing a base, several micro-batches, a large adapter, recompute.
SMALL = [
    ("135M", "f32", 2, 96, 96, 64, False),
    ("135M", "bf16", 1, 192, 192, 8, False),
    ("135M", "q4_k", 1, 192, 192, 8, True),
    ("135M", "q4_k", 4, 128, 512, 8, False, "bf16"),
]


def steps(arguments, cell, folder, *more):
    shape, base, rows, tokens, micro, r, recompute, *compute = cell
    config = pathlib.Path(folder, f"{shape}.json")
    config.write_text(json.dumps(dict(
        SHAPES[shape], architectures=["MistralForCausalLM"], model_type="mistral", hidden_act="silu",
        max_position_embeddings=32768, rms_norm_eps=1e-5, rope_theta=1e6, sliding_window=None)))
    command = [arguments.steps, "--synthetic", str(config), "--base", base, "--random", str(rows), str(tokens),
               "--micro-batch-rows", str(micro), "--r", str(r), "--steps", str(arguments.count), *more]
    if recompute:
        command.append("--recompute")
    command += [part for value in compute for part in ("--compute", value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def free_mib():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = ROOT / "target/release/examples/steps"
    parser.add_argument("--steps", default=str(target), help="the built example")
    parser.add_argument("--all", action="store_true", help="all 24 cells")
    parser.add_argument("--time", action="store_true", help="compare the time, too: only where nothing else runs")
    parser.add_argument("--count", type=int, default=3, help="optimiser steps a cell")
    parser.add_argument("--only", default="", help="cells of these shapes, such as 135M,7B")
    parser.add_argument("--room", type=float, help="leave out cells above this many MiB")
    arguments = parser.parse_args()
    cells = CELLS if arguments.all else SMALL
    cells = [cell for cell in cells if not arguments.only or cell[0] in arguments.only.split(",")]
    wrong = left_out = 0
    print("shape base  rows tok micro  r rec comp |  peak MiB planned   off |  s/step planned   off", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells:
            name = "{:5} {:5} {:3} {:4} {:5} {:2} {:3} {:4}".format(*cell[:6], "yes" if cell[6] else "no", (*cell, "f32")[7])
            # The time is planned first and alone: measuring it takes memory of its own.
            plan = steps(arguments, cell, folder, "--plan") if arguments.time else None
            room = min(free_mib(), arguments.room or float("inf"))
            peak = (plan or steps(arguments, cell, folder, "--plan", "--no-time"))["memory"]["peak"] / 2**20
            if peak > room:
                left_out += 1
                print(f"{name} | left out: needs {peak:.0f} MiB, {room:.0f} are there", flush=True)
                continue
            found = steps(arguments, cell, folder)
            planned, measured = found["planned"]["memory"]["peak"] / 2**20, found["peak_rss_mib"]
            off = planned / measured - 1
            line = f"{name} | {measured:9.1f} {planned:7.1f} {off:+6.1%}"
            is_off = abs(off) > PEAK
            if plan:
                seconds, predicted = found["seconds_per_step"], plan["time"]["step"]
                off = predicted / seconds - 1
                line += f" | {seconds:7.2f} {predicted:7.2f} {off:+6.1%}"
                is_off = is_off or abs(off) > TIME
            wrong += is_off
            print(line + ("  <-- off" if is_off else ""), flush=True)
    print(f"{len(cells) - left_out} cells, {wrong} off, {left_out} left out")
    sys.exit(1 if wrong else 0)


main()
