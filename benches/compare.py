"""Runs Foehn and its peers on the same work in turn and prints one table; `benches/compare.sh` calls it."""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
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

# Greedy decoding of eight sequences at once by llama.cpp, and its first token from the start of a process.
SEQUENCES = """
import json, os, random, sys, time
import llama_cpp as lib
lib.llama_backend_init()
quiet = lib.llama_log_callback(lambda *_: None)
lib.llama_log_set(quiet, None)
count, decode = 8, 128
params = lib.llama_model_default_params()
model = lib.llama_model_load_from_file(sys.argv[1].encode(), params)
context = lib.llama_context_default_params()
context.n_ctx, context.n_batch, context.n_seq_max = count * 256, 512, count
context.n_threads = context.n_threads_batch = os.cpu_count()
context = lib.llama_init_from_model(model, context)
batch = lib.llama_batch_init(512, 0, 1)
random.seed(0)
prompt = [random.randrange(100, 30000) for _ in range(16)]
def run(rows):
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
        batch.seq_id[i][0] = sequence
    assert lib.llama_decode(context, batch) == 0
speeds = []
for _ in range(4):
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    run([(token, at, s, at == 15) for s in range(count) for at, token in enumerate(prompt)])
    start = time.perf_counter()
    for step in range(decode):  # fixed tokens: llama.cpp's own speed, without a sampler
        run([(prompt[step % 16], 16 + step, s, True) for s in range(count)])
    speeds.append(count * decode / (time.perf_counter() - start))
print(json.dumps({"decode_tok_s": sorted(speeds[1:])[1]}))
"""

FIRST_TOKEN = """
import sys, time
from llama_cpp import Llama
start = time.perf_counter()
llama = Llama(sys.argv[1], n_ctx=4096, verbose=False)
print(llama.create_chat_completion([{"role": "user", "content": "Hello"}], max_tokens=1, temperature=0.0)["choices"][0])
print(time.perf_counter() - start)
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ["built", "model", "scripts", "work"]:
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("works", nargs="*", default=[])
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    machine = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if "model name" in l), platform.processor())
    print(f"{machine}, {len(os.sched_getaffinity(0))} cores; medians of {options.runs}, Foehn and the peer in turn\n")
    print(f"{'work':58} {'Foehn':>10} {'peer':>10} {'ratio':>7}")
    wanted = lambda work: not options.works or work in options.works
    train = Path("datasets/vakog/vakog_clean.jsonl")
    training = [
        ("W1", "LoRA step, 4 x 128 random tokens", lambda: ["--random", "4", "128"], 6),
        ("W2", "VAKOG, 16 examples a step", lambda: ["--rows", str(vakog_rows(options, train)), "--batch", "16"], 8),
        ("W3", "LoRA step, one sequence of 2,048 random tokens", lambda: ["--random", "1", "2048"], 3),
    ]
    for work, name, arguments, steps in training:
        if wanted(work):
            compare_training(options, f"{work} {name}", [*arguments(), "--steps", str(steps)])
    if wanted("W4"):
        compare_recognition(options)
    if wanted("W5"):
        compare_generation(options)
    if wanted("W6"):
        try_seven_billion(options)
    if wanted("W7"):
        compare_first_token(options)


def vakog_rows(options, data):
    """The samples of the data as ids and masks, shuffled as a run would."""
    command = [options.built / "tokenize", "--data", data, "--json", "--limit", "0"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    random.Random(1).shuffle(lines)
    path = options.work / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


# PEFT as it comes, and at its best. Where the processor has AMX, PyTorch's "medium" rounds to bfloat16 too.
PEFT = {"PEFT": [], "PEFT, matmul medium": ["--matmul", "medium"], "PEFT in bf16": ["--dtype", "bfloat16"]}
OURS = {"f32": ["PEFT", "PEFT, matmul medium"], "bf16": ["PEFT, matmul medium", "PEFT in bf16"]}


def compare_training(options, name, work):
    """Both of ours against each peer that is held against it, all in turn."""
    has_rows = "--rows" in work
    peer = [sys.executable, options.scripts / "peft_train.py", "--model", options.model, *work]
    ours = [options.built / "steps", *work]
    if has_rows:
        # The same adapter to start from, so that the losses can be compared.
        start = adapter(options)
        peer += ["--init", start]
        ours += ["--init", start]
    # At its best, a peer also computes logits for supervised rows only; with random rows all are supervised.
    best = lambda who: ["--loss-rows"] if has_rows and who != "PEFT" else []
    commands = {compute: [*ours, "--compute", compute] for compute in OURS}
    commands |= {who: [*peer, *setting, *best(who)] for who, setting in PEFT.items()}
    runs = {who: [] for who in commands}
    for _ in range(options.runs):
        for who, command in commands.items():
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[who].append(json.loads(done.stdout.splitlines()[-1]))
    middle = lambda who, key: statistics.median(run[key] for run in runs[who])
    unit = "examples_per_s" if has_rows else "tokens_per_s"
    print(f"{name}: {unit.replace('_per_', '/')}")
    for compute, against in OURS.items():
        for who in against:
            line(f"   {compute}, {who}", middle(compute, unit), middle(who, unit), higher=True)
    for compute, who in [("f32", "PEFT"), ("bf16", "PEFT in bf16")]:
        line(f"   {compute}, {who}: peak MiB", middle(compute, "peak_rss_mib"), middle(who, "peak_rss_mib"), higher=False)
    if has_rows:
        far = lambda who, from_: max(abs(a - b) for a, b in zip(runs[who][0]["losses"], runs[from_][0]["losses"]))
        print(f"   largest difference of the losses: f32 {far('f32', 'PEFT'):.1e}, bf16 {far('bf16', 'PEFT'):.1e}, "
              f"PEFT in bf16 {far('PEFT in bf16', 'PEFT'):.1e}")


def adapter(options):
    """An adapter of two steps by PEFT, r = 8 on all linear layers."""
    start = options.work / "start"
    if not start.exists():
        peer = [sys.executable, options.scripts / "peft_train.py", "--model", options.model, "--random", "4", "128"]
        subprocess.run([*peer, "--steps", "2", "--save", options.work], check=True, capture_output=True)
    return start


def last_json(command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare_generation(options):
    """Decoding and prefill from the GGUF as shipped; transformers in f32."""
    start = adapter(options)
    program = options.work / "sequences.py"
    program.write_text(SEQUENCES)
    speed = [options.built / "speed", "--model", options.gguf]
    commands = {
        "ours": speed,
        "peer": [sys.executable, options.scripts / "generate.py", "--hf", options.model, "--gguf", options.gguf],
        "adapted": [*speed, "--adapter", start],
        "exact": [*speed, "--exact"],
        "eight": [*speed, "--batch", "8"],
        "peer eight": [sys.executable, program, options.gguf],
    }
    runs = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            runs[name].append(last_json(command))
    middle = lambda name, get: statistics.median(get(run) for run in runs[name])
    decode = lambda run: run["decode_tok_s"]
    llama = lambda run: run["llama_cpp_gguf"]["decode_tok_s"]
    hugging = lambda run: run["transformers_f32"]["prefill_tok_s"]
    one = middle("ours", decode)
    line("W5 decoding, tokens/s (llama.cpp)", one, middle("peer", llama), higher=True)
    line("   in single precision (--exact)", middle("exact", decode), middle("peer", llama), higher=True)
    line("W5 with an adapter, not merged (without one)", middle("adapted", decode), one, higher=True)
    ours = middle("ours", lambda run: run["prefill_tok_s"])
    line("W5 prefill of 512, tokens/s (transformers f32)", ours, middle("peer", hugging), higher=True)
    eight = middle("eight", decode)
    line("W5 eight sequences at once, tokens/s (llama.cpp)", eight, middle("peer eight", decode), higher=True)


def try_seven_billion(options):
    """One LoRA step of 256 tokens on synthetic weights of Mistral-7B's shape; the peer has no place in the memory."""
    config = "examples/recipes/mistral-7b-v0.3.config.json"
    work = ["--random", "1", "256", "--r", "16", "--steps", "2", "--micro-batch-rows", "256"]
    runs = [last_json([options.built / "steps", "--synthetic", config, "--base", "q4_k", *work])]
    print(f"{'W6 7B in q4_k, LoRA step of 256 tokens: tokens/s':58} {runs[0]['tokens_per_s']:10.2f}")
    print(f"{'W6 peak MiB':58} {runs[0]['peak_rss_mib']:10.0f}", flush=True)


def compare_first_token(options):
    """From the start of a process to its first token, files cached."""
    program = options.work / "first.py"
    program.write_text(FIRST_TOKEN)
    ours = [options.built / "chat", "--model", options.gguf, "--prompt", "Hello", "--max-new-tokens", "1"]
    seconds = {"ours": [], "peer": [], "imported": []}
    for _ in range(options.runs + 1):
        for name, command in [("ours", ours), ("peer", [sys.executable, program, options.gguf])]:
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds[name].append(time.perf_counter() - start)
        seconds["imported"].append(float(done.stdout.splitlines()[-1]))
    middle = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    line("W7 process start to first token, s", middle["ours"], middle["peer"], higher=False)
    line("   llama.cpp without Python's start and import", middle["ours"], middle["imported"], higher=False)


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
