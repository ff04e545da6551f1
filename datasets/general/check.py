"""Checks the general questions and texts against each other, their hashes and the data that models are trained on.

    python3 datasets/general/check.py

Prints the counts, then one line an offence, and exits with 1 where there is any. It changes nothing.
"""

import hashlib
import json
import re
import sys
import tomllib
from collections import Counter
from itertools import combinations
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What models are trained on.
TRAINING = [
    HERE.parent / "vakog" / "vakog_clean.jsonl",
    HERE.parent / "vakog" / "vakog_plain.jsonl",
    HERE / "replay.jsonl",
]

FIELDS = {
    "questions.jsonl": ["id", "question", "answers", "kind", "group"],
    "texts.jsonl": ["id", "text", "kind", "group"],
}
COUNTS = {
    "questions.jsonl": {
        kind: 10 for kind in ["geography", "science", "language", "arithmetic", "everyday", "instructions"]
    },
    "texts.jsonl": {
        kind: 3
        for kind in ["encyclopaedic", "narrative", "news-like", "how-to", "dialogue", "letter", "argument", "code"]
    },
}
# Two questions may share this much of their five-character shingles (Jaccard). The frame of a question counts too:
# "What is the capital of …?" with two countries reaches 0.64.
NEAR = 0.7
# Less is enough where they share an answer as well: "What is the capital city of …?"
NEAR_WITH_ANSWER = 0.4
RUN = 8


def words(text):
    """The words of a text, without case and punctuation; an apostrophe does not part a word."""
    return re.findall(r"[^\W_]+", re.sub(r"['’]", "", text.casefold()))


def contains(text, answer):
    """Whether the answer stands in the text as whole words."""
    return f" {' '.join(words(answer))} " in f" {' '.join(words(text))} "


def shingles(text):
    joined = " ".join(words(text))
    return {joined[at : at + 5] for at in range(max(1, len(joined) - 4))}


def runs(text):
    found = words(text)
    return {tuple(found[at : at + RUN]) for at in range(len(found) - RUN + 1)}


def read(name):
    with open(HERE / name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def check_rows(name, rows):
    """The fields, counts, ids and groups of one file."""
    for row in rows:
        if list(row) != FIELDS[name]:
            yield f"{name}: {row.get('id')} has the fields {list(row)}, not {FIELDS[name]}"
    found = Counter(row["kind"] for row in rows)
    if found != COUNTS[name]:
        yield f"{name}: the kinds are {dict(found)}, not {COUNTS[name]}"


def check_unique(rows):
    for field in ["id", "group"]:
        for value, count in Counter(row[field] for row in rows).items():
            if count > 1:
                yield f"the {field} {value} stands {count} times"


def check_questions(rows):
    for row in rows:
        if not row["answers"]:
            yield f"{row['id']} has no answer"
        for answer in row["answers"]:
            if not words(answer):
                yield f"{row['id']}: the answer {answer!r} has no word"
            if len("".join(words(answer))) == 1 and not answer.isdigit():
                yield f"{row['id']}: the answer {answer!r} is a single letter"
            if contains(row["question"], answer):
                yield f"{row['id']}: the question contains its answer {answer!r}"
    for one, other in combinations(rows, 2):
        a, b = shingles(one["question"]), shingles(other["question"])
        shared = len(a & b) / len(a | b)
        same = any(words(answer) == words(second) for answer in one["answers"] for second in other["answers"])
        if shared > (NEAR_WITH_ANSWER if same else NEAR):
            yield f"{one['id']} and {other['id']} share {shared:.2f} of their shingles"


def check_training(rows):
    """No run of words may stand in the data that a model is trained on."""
    seen = set()
    for path in TRAINING:
        with open(path, encoding="utf-8") as file:
            for line in file:
                for message in json.loads(line)["messages"]:
                    seen |= runs(message["content"])
    for row in rows:
        for run in sorted(runs(row.get("question") or row["text"]) & seen):
            yield f"{row['id']} shares with the training data: {' '.join(run)}"


def check_hashes():
    suite = tomllib.loads((HERE / "suite.toml").read_text(encoding="utf-8"))
    if sorted(task["file"] for task in suite["task"]) != sorted(FIELDS):
        yield f"suite.toml names other files than {sorted(FIELDS)}"
    for task in suite["task"]:
        found = hashlib.sha256((HERE / task["file"]).read_bytes()).hexdigest()
        if found != task["sha256"]:
            yield f"suite.toml: {task['file']} has the hash {found}, not {task['sha256']}"


def main():
    questions, texts = read("questions.jsonl"), read("texts.jsonl")
    offences = [
        *check_rows("questions.jsonl", questions),
        *check_rows("texts.jsonl", texts),
        *check_unique(questions + texts),
        *check_questions(questions),
        *check_training(questions + texts),
        *check_hashes(),
    ]
    print(f"{len(questions)} questions: {dict(Counter(row['kind'] for row in questions))}")
    print(f"{len(texts)} texts of {sum(len(words(row['text'])) for row in texts)} words")
    for offence in offences:
        print(offence)
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
