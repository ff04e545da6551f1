"""What benches/compare_clean.sh runs: the file with its planted dirt, cleaning in plain Python, and the comparison.

    compare_clean.py generate FOLDER RECORDS   # raw.jsonl, truth.json (line: fault), pipeline.toml
    compare_clean.py clean RAW CLEAN REJECTS   # the Python side
    compare_clean.py run FOLDER CLEAN_PROGRAM  # both sides, one after the other; what they cost in costs.json
    compare_clean.py compare FOLDER RECORDS
"""

import json
import os
import random
import re
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path

try:
    import ftfy
except ImportError:
    ftfy = None

# Those of Foehn's passes that have a simple form in Python, in the order of a pipeline file.
PIPELINE = """
[[pass]]
name = "normalise"
[[pass]]
name = "controls"
[[pass]]
name = "trim"
[[pass]]
name = "structure"
[[pass]]
name = "control-text"
[[pass]]
name = "pii"
action = "drop"
kinds = ["email", "phone"]
[[pass]]
name = "repetition"
[[pass]]
name = "length"
min_answer = 20
max_answer = 4000
[[pass]]
name = "duplicate"
"""
MOJIBAKE = '[[pass]]\nname = "mojibake"\n'


def main():
    match sys.argv[1:]:
        case ["generate", folder, records]:
            generate(Path(folder), int(records))
        case ["clean", raw, kept, rejects]:
            clean(raw, kept, rejects)
        case ["run", folder, program]:
            run(Path(folder), program)
        case ["compare", folder, records]:
            compare(Path(folder), int(records))
        case _:
            sys.exit(__doc__)


# The file


class Texts:
    """Texts of 20,000 made-up words, of which a word is the rarer the later it stands (Zipf's law); some have accents."""

    def __init__(self, rng):
        self.rng = rng
        self.plain = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
        accented = dict(zip("aceinou", "áçéîñöü"))
        self.accented = [
            "".join(accented.get(c, c) for c in word) if at % 7 == 0 else word for at, word in enumerate(self.plain)
        ]
        weights, total = [], 0.0
        for rank in range(len(self.plain)):
            total += 1 / (rank + 1)
            weights.append(total)
        self.weights = weights

    def text(self, low, high, accents):
        words = self.rng.choices(
            self.accented if accents else self.plain, cum_weights=self.weights, k=self.rng.randint(low, high)
        )
        for at in range(11, len(words) - 1, 12):
            words[at] += self.rng.choice([".", ".", ",", ".\n"])
        if accents:
            # Without accents: ftfy takes "É”" for misread text.
            words[0] = f"“{self.rng.choice(self.plain)}”"
        return " ".join(words) + "."

    def record(self, at, accents):
        messages = []
        for _ in range(self.rng.choice([1, 1, 1, 2])):
            messages.append({"role": "user", "content": self.text(10, 40, accents)})
            messages.append({"role": "assistant", "content": self.text(60, 180, accents)})
        return {"id": str(at), "messages": messages}


def generate(folder, count):
    """Every 20th record is to be rejected, every 20th to be repaired; half of the records have more than ASCII."""
    rng = random.Random(42)
    texts = Texts(rng)
    kinds = list(REPAIRABLE if ftfy else [kind for kind in REPAIRABLE if kind != "mojibake"])
    truth, earlier = {}, []
    with (folder / "raw.jsonl").open("w", encoding="utf-8") as out:
        for at in range(count):
            record = texts.record(at, accents=at % 2 == 0)
            if at % 20 == 11:
                fault = list(FAULTS)[at // 20 % len(FAULTS)]
                line = FAULTS[fault](record, rng, earlier)
                truth[at + 1] = fault
            elif at % 20 == 16:
                kind = kinds[at // 20 % len(kinds)]
                for message in record["messages"]:
                    message["content"] = REPAIRABLE[kind](message["content"])
                line = json.dumps(record, ensure_ascii=False)
            else:
                line = json.dumps(record, ensure_ascii=False)
                if at % 20 < 10:
                    earlier.append(record)
            out.write(line + "\n")
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "pipeline.toml").write_text((MOJIBAKE if ftfy else "") + PIPELINE)


def broken(record, rng, _):
    line = json.dumps(record, ensure_ascii=False)
    return line[: rng.randint(len(line) // 2, len(line) - 1)]


def in_answer(change):
    def plant(record, rng, _):
        record["messages"][-1]["content"] = change(record["messages"][-1]["content"], rng)
        return json.dumps(record, ensure_ascii=False)

    return plant


def assistant_first(record, _, __):
    record["messages"].reverse()
    return json.dumps(record, ensure_ascii=False)


def copied(record, rng, earlier):
    copy = earlier.pop(rng.randrange(len(earlier)))
    change = rng.choice([str.upper, lambda text: text.replace(" ", "  "), lambda text: text.replace(".", "!")])
    messages = [message | {"content": change(message["content"])} for message in copy["messages"]]
    return json.dumps({"id": record["id"], "messages": messages}, ensure_ascii=False)


def amid(piece):
    """Puts what `piece` makes between two words."""

    def change(text, rng):
        words = text.split(" ")
        words.insert(rng.randrange(1, len(words)), piece(rng))
        return " ".join(words)

    return change


def phone(rng):
    return rng.choice(["+44 20 7946 0{:03}", "+1 (212) 555-0{:03}", "+49 30 9018-2{:03}"]).format(rng.randint(100, 999))


def looped(text, rng):
    words = text.split()
    return " ".join(words[: rng.randint(5, 9)] * 12)


FAULTS = {
    "read": broken,
    "structure": assistant_first,
    "empty": in_answer(lambda text, rng: rng.choice(["", " ", "\n"])),
    "control-text": in_answer(amid(lambda rng: rng.choice(["<|im_end|>", "[INST]", "</s>", "<|im_start|>user"]))),
    "e-mail": in_answer(amid(lambda rng: f"user{rng.randrange(1000)}@mail{rng.randrange(100)}.example.org")),
    "phone": in_answer(amid(phone)),
    "repetition": in_answer(looped),
    "length": in_answer(lambda text, rng: text[: rng.randint(3, 12)].strip("“ ") + "."),
    "duplicate": copied,
}

REPAIRABLE = {
    "mojibake": lambda text: "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in text.encode("utf-8")),
    "form": lambda text: unicodedata.normalize("NFD", text.replace("e", "é")),
    "controls": lambda text: text.replace(" ", " \x00", 2).replace(".", "\x1b.", 1),
    "no width": lambda text: text.replace(" ", "\u200b ", 3) + "\ufeff",
    "line endings": lambda text: text.replace("\n", "\r\n") + "\r\n",
    "spaces": lambda text: f"\n {text}\t ",
}


# Cleaning in Python

ROLES = ("system", "user", "assistant")
CONTROLS = {c: None for c in [*range(32), *range(127, 160)] if chr(c) not in "\n\t"}
NO_WIDTH = {c: None for c in map(ord, "\ufeff\u200b\u2060\u00ad")}
CONTROL_TEXT = re.compile(r"<\|[a-z0-9_]+\|>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]|</?s>|<</?SYS>>")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(r"\+\d(?:[ ().-]{0,3}\d){6,14}")
GAP = re.compile(r"\W+")
TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def clean(raw, kept, rejects):
    seen, rejected = set(), {}
    with open(raw, "rb") as lines, open(kept, "w", encoding="utf-8") as out:
        for number, line in enumerate(lines, start=1):
            record, fault = parse(line)
            fault = fault or judge(record["messages"])
            if not fault:
                key = hash(tuple((message["role"], normal(message["content"])) for message in record["messages"]))
                fault = "duplicate" if key in seen else None
                seen.add(key)
            if fault:
                rejected[number] = fault
            else:
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
    Path(rejects).write_text(json.dumps(rejected))


def parse(line):
    """A record with its texts repaired, or a fault."""
    try:
        record = json.loads(line)
        for message in record["messages"]:
            if message["role"] not in ROLES:
                return None, "read"
            message["content"] = repaired(message["content"])
    except (ValueError, KeyError, TypeError):
        return None, "read"
    return record, None


def repaired(text):
    if ftfy:
        text = ftfy.fix_encoding(text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(NO_WIDTH)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text.translate(CONTROLS).strip()


def judge(messages):
    turns = messages[1:] if messages and messages[0]["role"] == "system" else messages
    if not turns or len(turns) % 2 or any(turn["role"] != ROLES[1 + at % 2] for at, turn in enumerate(turns)):
        return "structure"
    if not all(message["content"] for message in messages):
        return "structure"
    if any(CONTROL_TEXT.search(message["content"]) for message in messages):
        return "control-text"
    if any(EMAIL.search(message["content"]) or PHONE.search(message["content"]) for message in messages):
        return "pii"
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    if any(map(repeats, answers)):
        return "repetition"
    if any(not 20 <= len(answer) <= 4000 for answer in answers):
        return "length"
    return None


def normal(text):
    return GAP.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def repeats(text):
    """Gopher's rules of repetition, for answers of 50 words and more."""
    words = normal(text).split(" ")
    if len(words) < 50:
        return False
    for parts in (text.splitlines(), text.split("\n\n")):
        parts = [part.strip() for part in parts if part.strip()]
        if len(parts) >= 4:
            distinct = set(parts)
            if len(parts) - len(distinct) > 0.3 * len(parts):
                return True
            if sum(map(len, parts)) - sum(map(len, distinct)) > 0.2 * sum(map(len, parts)):
                return True
    total = sum(map(len, words))
    for size, limit in TOP_NGRAMS.items():
        ngram, count = Counter(zip(*(words[at:] for at in range(size)))).most_common(1)[0]
        if count >= 3 and count * sum(map(len, ngram)) > limit * total:
            return True
    for size, limit in DUPLICATE_NGRAMS.items():
        seen, again = set(), set()
        for at, ngram in enumerate(zip(*(words[at:] for at in range(size)))):
            if ngram in seen:
                again.update(range(at, at + size))
            seen.add(ngram)
        if sum(len(words[at]) for at in again) > limit * total:
            return True
    return False


# The comparison


def run(folder, program):
    """Both sides with their seconds, their processor seconds and their peak memory. This process stays small: a child's
    peak is at least its parent's."""
    path = lambda name: str(folder / name)
    foehn = [program, path("raw.jsonl"), "--pipeline", path("pipeline.toml")]
    foehn += ["--out", path("foehn.jsonl"), "--report", path("foehn.json")]
    python = [sys.executable, __file__, "clean", path("raw.jsonl"), path("python.jsonl"), path("python.json")]
    costs = {}
    for name, command in [("foehn", foehn), ("python", python)]:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{name} failed: {' '.join(command)}")
        costs[name] = [time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]
    (folder / "costs.json").write_text(json.dumps(costs))


def compare(folder, count):
    load = lambda name: json.loads((folder / name).read_text())
    truth = {int(line): fault for line, fault in load("truth.json").items()}
    rejected = {
        "foehn": {rejection["line"] for rejection in load("foehn.json")["rejections"]},
        "python": set(map(int, load("python.json"))),
    }
    encoding = "ftfy" if ftfy else "none"
    print(f"{count} records, {len(truth)} of them to be rejected, for {len(set(truth.values()))} faults; encoding: {encoding}")
    print(f"{'':8}{'rejected':>10}{'wrongly':>9}{'missed':>8}{'seconds':>9}{'CPU s':>8}{'records/s':>11}{'MiB':>7}")
    costs = load("costs.json")
    for name, (seconds, cpu, peak) in costs.items():
        wrongly, missed = rejected[name] - set(truth), set(truth) - rejected[name]
        print(
            f"{name:8}{len(rejected[name]):10}{len(wrongly):9}{len(missed):8}{seconds:9.1f}{cpu:8.1f}"
            f"{count / seconds:11.0f}{peak:7.0f}"
        )
        for line in sorted(wrongly | missed)[:5]:
            print(f"  line {line}: {truth.get(line, 'sound')}")
    times = [python / foehn for python, foehn in zip(costs["python"], costs["foehn"])]
    print(f"python takes {times[0]:.1f} times as long ({times[1]:.1f} by the processor), with {times[2]:.1f} times the memory")

    ours, theirs = texts(folder / "foehn.jsonl"), texts(folder / "python.jsonl")
    both = ours.keys() & theirs.keys()
    print(f"{sum(ours[name] == theirs[name] for name in both)} of the {len(both)} records that both keep have the same texts")


def texts(path):
    """A hash of the messages of each record."""
    with path.open(encoding="utf-8") as lines:
        records = map(json.loads, lines)
        return {record["id"]: hash(str(record["messages"])) for record in records}


if __name__ == "__main__":
    main()
