"""What the fault scripts share: a tiny job for the example `finetune`, and what has to hold of a run's folder after it."""

import argparse
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "tests/golden/tokenizers/mini-first"
CHECKPOINT = re.compile(r"step-\d{8}")
LEFT_OVERS = (".partial-", ".tmp", ".foehn-")
LIMIT = 120  # seconds that any single run may take: it takes one

RECIPE = """
epochs = 3
batch_size = 4
checkpoint_steps = 2
learning_rate = 1e-2
[lora]
r = 4
[validation]
fraction = 0.1
steps = 3
patience = 50
"""

PLACES = {
    "France": "Paris", "Peru": "Lima", "Norway": "Oslo", "Japan": "Tokyo", "Egypt": "Cairo", "Cuba": "Havana",
    "Kenya": "Nairobi", "Spain": "Madrid", "Italy": "Rome", "Greece": "Athens", "Ghana": "Accra", "Chile": "Santiago",
    "Qatar": "Doha", "Nepal": "Kathmandu", "Iraq": "Baghdad", "Sudan": "Khartoum", "Latvia": "Riga", "Malta": "Valletta",
    "Poland": "Warsaw", "Serbia": "Belgrade", "Tunisia": "Tunis", "Uruguay": "Montevideo", "Vietnam": "Hanoi",
    "Zambia": "Lusaka",
}


def tiny_model(folder):
    """One layer of random weights behind a real, small tokenizer."""
    vocab, hidden, inner, head = 2400, 32, 48, 16
    config = {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocab, "tie_word_embeddings": True,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    }
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens": [vocab, hidden], "model.norm": [hidden], layer + "input_layernorm": [hidden],
        layer + "post_attention_layernorm": [hidden], layer + "self_attn.q_proj": [hidden, hidden],
        layer + "self_attn.k_proj": [head, hidden], layer + "self_attn.v_proj": [head, hidden],
        layer + "self_attn.o_proj": [hidden, hidden], layer + "mlp.gate_proj": [inner, hidden],
        layer + "mlp.up_proj": [inner, hidden], layer + "mlp.down_proj": [hidden, inner],
    }
    draw, header, body = random.Random(9), {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = array("f", [1.0] * count if len(shape) == 1 else [draw.random() - 0.5 for _ in range(count)])
        begin = len(body)
        body += values.tobytes()
        header[name + ".weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(body)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    for file in TOKENIZER.iterdir():
        shutil.copy(file, folder)


class Job:
    """A recipe, a model and data in a scratch folder, and what a run of them ends in when nothing happens to it."""

    def __init__(self, arguments):
        self.scratch = Path(tempfile.mkdtemp(prefix="foehn-faults-", dir=arguments.scratch))
        self.program = self.scratch / "finetune"
        shutil.copy(arguments.finetune, self.program)  # a build that goes on beside cannot change it under us
        tiny_model(self.scratch / "model")
        records = [{"prompt": f"What is the capital of {country}?", "completion": f"The capital of {country} is {city}."}
                   for country, city in PLACES.items()]
        (self.scratch / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (self.scratch / "recipe.toml").write_text(RECIPE)
        self.environment = {**os.environ, "FOEHN_OFFLINE": "1"}
        self.whole, self.made, self.seconds = {}, {}, 0.0
        self.run_whole(0)

    def run_whole(self, seed):
        """An uninterrupted run: its adapter's files, by seed, and how long it takes."""
        folder = self.scratch / f"whole-{seed}"
        begun = time.monotonic()
        done = self.run(folder, seed=seed)
        self.seconds = time.monotonic() - begun
        if done.returncode != 0:
            sys.exit(f"the job fails with no fault at all: {said(done)}")
        self.whole[seed] = {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()}
        self.made[seed] = {place.name: names(place) for place in checkpoints(folder)}
        self.steps = steps_of(folder)
        problems = self.problems(folder, seed, finished=True)
        if problems:
            sys.exit(f"the job ends badly with no fault at all: {problems}")
        shutil.rmtree(folder)

    def folder(self, name):
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def command(self, out, resume=False, seed=0):
        at = self.scratch
        command = [self.program, "--config", at / "recipe.toml", "--model", at / "model", "--data", at / "data.jsonl"]
        command += ["--out", out, "--no-evaluation", "--seed", str(seed)]
        return [str(part) for part in command + (["--resume"] if resume else [])]

    def start(self, out, before=(), **how):
        command = [*before, *self.command(out, **how)]
        return subprocess.Popen(command, cwd=self.scratch, env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                                start_new_session=True)

    def run(self, out, before=(), **how):
        return ended(self.start(out, before, **how))

    def go_on(self, out, seed=0):
        """What a person does after a fault: resumes where a checkpoint is, and else begins again in the same folder."""
        return self.run(out, resume=bool(checkpoints(out)), seed=seed)

    def stopped(self, name, at_least):
        """A run that was killed once it had taken at least so many steps, and had not ended."""
        for attempt in range(100):
            folder = self.folder(name)
            running = self.start(folder)
            while running.poll() is None and not any(int(place.name[5:]) >= at_least for place in checkpoints(folder)):
                time.sleep(0.001)
            time.sleep(attempt % 10 * 0.002)  # a kill while a checkpoint is written or removed is kill.py's
            running.kill()
            running.communicate()
            if running.returncode == -9 and not (folder / "adapter").exists() and not self.problems(folder):
                return folder
        sys.exit(f"of 100 runs that were killed after {at_least} steps, none left whole checkpoints and no adapter")

    def problems(self, out, seed=0, finished=False):
        """What is wrong with a run's folder: whatever has its final name has to be whole."""
        wrong = []
        if not out.exists():
            return ["there is no folder"] if finished else []
        for path in sorted(out.rglob("*")):
            inside = path.relative_to(out)
            if any(part.startswith(LEFT_OVERS) for part in inside.parts):
                if finished:
                    wrong.append(f"{inside} is left over")
            elif path.is_file():
                # A line that was cut off while it was written is skipped when the file is read again.
                why = broken(path, may_end_early=path.name == "metrics.jsonl")
                wrong += [f"{inside}: {why}"] if why else []
        wrong += self.checkpoint_problems(out, seed)
        if (out / "adapter").exists() or finished:
            for name, expected in self.whole[seed].items():
                file = out / "adapter" / name
                if not file.exists():
                    wrong.append(f"adapter/{name} is missing")
                elif file.read_bytes() != expected:
                    wrong.append(f"adapter/{name} is not what the uninterrupted run writes")
        return wrong

    def checkpoint_problems(self, out, seed):
        known = self.made.get(seed) or {}
        expected = next(iter(known.values()), None)
        wrong = []
        for place in checkpoints(out):
            missing = (expected or set()) - names(place)
            if missing and expected:
                # The best adapter is there from the first validation on.
                missing = {name for name in missing if not name.startswith("best/")}
            wrong += [f"checkpoints/{place.name} lacks {name}" for name in sorted(missing)]
        return wrong

    def end(self, keep):
        if keep:
            print(f"kept: {self.scratch}")
        else:
            shutil.rmtree(self.scratch, ignore_errors=True)


def broken(path, may_end_early):
    """Why a file is not whole; None where it is."""
    data = path.read_bytes()
    try:
        if path.suffix == ".json":
            json.loads(data)
        elif path.suffix == ".jsonl":
            lines = data.split(b"\n")
            if lines.pop() and not may_end_early:
                return "its last line is cut off"
            for line in lines:
                json.loads(line)
        elif path.suffix == ".svg":
            if not data.rstrip().endswith(b"</svg>"):
                return "it is cut off"
        elif path.suffix == ".safetensors":
            (length,) = struct.unpack("<Q", data[:8])
            header = json.loads(data[8:8 + length])
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            if 8 + length + max(ends, default=0) != len(data):
                return "it is cut off"
    except (ValueError, struct.error, KeyError) as error:
        return f"half-written: {error}"
    return None


def checkpoints(out):
    """A run's checkpoints, oldest first."""
    place = out / "checkpoints"
    try:
        return sorted(path for path in place.iterdir() if CHECKPOINT.fullmatch(path.name))
    except FileNotFoundError:
        return []


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def steps_of(out):
    """The steps that a run's metrics tell of, in their order."""
    found = []
    for line in (out / "metrics.jsonl").read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "loss" in entry:
            found.append(entry["step"])
    return found


def ended(process):
    """Waits for a process; one that hangs is killed and said to have hung."""
    try:
        out, error = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # strace would leave what it watches behind
        out, error = process.communicate()
        error += f"\nhung: not done after {LIMIT} seconds"
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def said(done):
    """The end of what a process printed, on one line."""
    text = " ".join((done.stdout + " " + done.stderr).split())
    return f"exit {done.returncode}: …{text[-300:]}"


class Score:
    """Counts what held and what did not, and says what did not."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def add(self, case, problems):
        if problems:
            self.failed += 1
            print(f"FAILED {case}", flush=True)
            for problem in problems[:6]:
                print(f"    {problem}", flush=True)
        else:
            self.passed += 1

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def main(description, count, play, more=lambda parser: None):
    """Parses the arguments that all scripts share, plays, and ends with the score."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count, help="how many cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn at random (default: %(default)s)")
    parser.add_argument("--finetune", type=Path, default=target / "release/examples/finetune",
                        help="the built example (default: %(default)s)")
    # Nothing here depends on a disk: a fault is a call that fails or a process that dies. On a disk, most of the time
    # would be spent on the run's own fsync.
    memory = Path("/dev/shm")
    parser.add_argument("--scratch", type=Path, default=memory if os.access(memory, os.W_OK) else None,
                        help="where to work (default: in memory where there is /dev/shm, else the system's folder)")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder to look at")
    more(parser)
    arguments = parser.parse_args()
    if not arguments.finetune.exists():
        sys.exit(f"{arguments.finetune} is not built: cargo build --release --example finetune")
    job = Job(arguments)
    score = Score()
    try:
        play(job, arguments, random.Random(arguments.seed), score)
    finally:
        job.end(arguments.keep)
    sys.exit(score.end())
