"""Runs Foehn and its peers on the same work in turn and prints one table; `benches/compare.sh` calls it."""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from pathlib import Path

RECOGNITION = """
import json, resource, sys, time
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
labels = json.load(open(sys.argv[2]))
scores, seconds = [], 0.0
for rows in labels:
    width = max(len(row["input_ids"]) for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        ids[i, :n], mask[i, :n] = torch.tensor(row["input_ids"]), 1
    start = time.perf_counter()
    with torch.no_grad():
        hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
        for i, row in enumerate(rows):
            n, prompt = len(row["input_ids"]), row["prompt"]
            logp = model.lm_head(hidden[i, prompt - 1 : n - 1]).log_softmax(-1)
            scores.append(logp.gather(1, ids[i, prompt:n, None]).sum().item())
    seconds += time.perf_counter() - start
print(json.dumps({"seconds": seconds, "scores": scores}))
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ["built", "model", "scripts", "work"]:
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    machine = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if "model name" in l), platform.processor())
    print(f"{machine}, {len(os.sched_getaffinity(0))} cores; medians of {options.runs}, Foehn and the peer in turn\n")
    print(f"{'work':58} {'Foehn':>10} {'peer':>10} {'ratio':>7}")
    train = Path("datasets/vakog/vakog_clean.jsonl")
    rows = vakog_rows(options, train)
    jobs = [
        ("W1 LoRA step, 4 x 128 random tokens", ["--random", "4", "128"], 6),
        ("W2 VAKOG, 16 examples a step", ["--rows", str(rows), "--batch", "16"], 8),
        ("W3 LoRA step, one sequence of 2,048 random tokens", ["--random", "1", "2048"], 3),
    ]
    for name, work, steps in jobs:
        compare_training(options, name, [*work, "--steps", str(steps)])
    compare_recognition(options)


def vakog_rows(options, data):
    """The samples of the data as ids and masks, shuffled as a run would."""
    command = [options.built / "tokenize", "--data", data, "--json", "--limit", "0"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    random.Random(1).shuffle(lines)
    path = options.work / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def compare_training(options, name, work):
    peer = [sys.executable, options.scripts / "peft_train.py", "--model", options.model, *work]
    ours = [options.built / "steps", *work]
    if "--rows" in work:
        # The same adapter to start from, so that the losses can be compared.
        start = options.work / "start"
        if not start.exists():
            subprocess.run([*peer[:-1], "2", "--save", options.work], check=True, capture_output=True)
        peer += ["--init", start]
        ours += ["--init", start]
    runs = {"foehn": [], "peer": []}
    for _ in range(options.runs):
        for who, command in [("foehn", ours), ("peer", peer)]:
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[who].append(json.loads(done.stdout.splitlines()[-1]))
    middle = lambda who, key: statistics.median(run[key] for run in runs[who])
    unit = "examples_per_s" if "--rows" in work else "tokens_per_s"
    line(f"{name}: {unit.replace('_per_', '/')}", middle("foehn", unit), middle("peer", unit), higher=True)
    line(f"{name}: peak MiB", middle("foehn", "peak_rss_mib"), middle("peer", "peak_rss_mib"), higher=False)
    if "--rows" in work:
        pairs = zip(runs["foehn"][0]["losses"], runs["peer"][0]["losses"])
        print(f"   largest difference of the losses: {max(abs(a - b) for a, b in pairs):.1e}")


def compare_recognition(options):
    """The likelihood of five labels after each of 100 questions."""
    probes = [json.loads(text) for text in Path("datasets/vakog/probes/recognition.jsonl").read_text().splitlines()]
    labels = ["Visual", "Auditory", "Kinesthetic", "Olfactory", "Gustatory"]
    path = options.work / "probes.jsonl"
    with path.open("w") as out:
        for probe in probes:
            for label in labels:
                question = f"What modality is: '{probe['sentence']}'?"
                turns = [{"role": "user", "content": question}, {"role": "assistant", "content": label}]
                out.write(json.dumps({"messages": turns}) + "\n")
    command = [options.built / "tokenize", "--data", path, "--json", "--limit", "0"]
    rows = [json.loads(l) for l in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]
    for row in rows:
        row["prompt"] = row["loss_mask"].index(1)
    by_label = [rows[label :: len(labels)] for label in range(len(labels))]
    work = options.work / "labels.json"
    work.write_text(json.dumps(by_label))
    program = options.work / "recognition.py"
    program.write_text(RECOGNITION)
    ours, peer, scores = [], [], {}
    stdin = "".join(json.dumps({"input_ids": row["input_ids"]}) + "\n" for row in rows)
    for _ in range(options.runs):
        command = [options.built / "score", "--time"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, input=stdin)
        ours.append(json.loads(done.stderr.splitlines()[-1])["seconds"])
        scores["foehn"] = [
            sum(json.loads(text)[row["prompt"] - 1 :]) for text, row in zip(done.stdout.splitlines(), rows)
        ]
        done = subprocess.run([sys.executable, program, options.model, work], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        peer.append(found["seconds"])
        scores["peer"] = [found["scores"][i % 5 * len(probes) + i // 5] for i in range(len(rows))]
    line("W4 five labels of 100 probes: s", statistics.median(ours), statistics.median(peer), higher=False)
    print(f"   largest difference of the scores: {max(abs(a - b) for a, b in zip(scores['foehn'], scores['peer'])):.1e}")


def line(name, ours, peer, higher):
    ratio = ours / peer if higher else peer / ours
    print(f"{name:58} {ours:10.2f} {peer:10.2f} {ratio:6.2f}x", flush=True)


if __name__ == "__main__":
    main()
