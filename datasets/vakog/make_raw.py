"""Builds vakog_raw.jsonl: the hand-written records as data arrives in life, with dirt whose place is known.

    python3 datasets/vakog/make_raw.py

The records of parts/ are put into four formats, and some of their texts are soiled in ways that can be undone. Mixed
among them are the records of dirt.jsonl, which have to go, and copies of good records. expected_rejects.json names the
line and the fault of every record that cleaning has to reject. The same parts and the same seed give the same bytes.
"""

import json
import random
import re
import unicodedata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ["recognise", "describe", "rewrite", "explain", "choose", "multi"]
SEED = 20261122

# How many good records are soiled in each way, and how many are copied.
MOJIBAKE, MOJIBAKE_TWICE, NFD, INVISIBLE, CRLF, SPACES = 56, 4, 7, 18, 12, 30
COPIES = {"verbatim": 14, "other format": 12, "other spelling": 16}

# The formats of a record with one question, with their weights; further questions are told in the first two.
FORMATS = {"messages": 70, "conversations": 12, "alpaca": 10, "prompt": 8}
SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


def main():
    rng = random.Random(SEED)
    records = [record for part in PARTS for record in read_lines(HERE / "parts" / f"{part}.jsonl")]
    soil(records, rng)

    lines = [Raw(rendered(record, pick_format(record, rng)), record["id"]) for record in records]
    copies = [copy(records[at], lines[at], kind, rng) for at, kind in copied(records, rng)]
    faulty = [faulty_line(entry, rng) for entry in read_lines(HERE / "dirt.jsonl")]

    lines += copies + faulty
    rng.shuffle(lines)
    put_copies_last(lines)
    write(lines)


class Raw:
    """A line of the raw file: its bytes, its record's id, its fault if it has one, and the line that it copies."""

    def __init__(self, content, name, fault=None, original=None):
        self.content, self.name, self.fault, self.original = content, name, fault, original


def read_lines(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def write(lines):
    (HERE / "vakog_raw.jsonl").write_bytes(b"".join(line.content + b"\n" for line in lines))
    rejects = [
        json.dumps({"line": number, "id": line.name, "fault": line.fault})
        for number, line in enumerate(lines, start=1)
        if line.fault
    ]
    (HERE / "expected_rejects.json").write_text("[\n" + ",\n".join(rejects) + "\n]\n", encoding="utf-8")
    print(f"{len(lines)} lines, {len(rejects)} of them to be rejected")


# Dirt that can be undone


def soil(records, rng):
    """Soils records in place, each in one way at most. Accents come first: without them nothing can be decomposed."""
    accented = [record for record in records if not all(text.isascii() for text in texts(record))]
    decomposed = rng.sample(accented, NFD)
    others = [record for record in records if record not in decomposed]
    quoting = [record for record in others if any(mark in text for text in texts(record) for mark in "'\"")]
    garbled = rng.sample(quoting, MOJIBAKE + MOJIBAKE_TWICE)
    others = rng.sample([record for record in others if record not in garbled], INVISIBLE + CRLF + SPACES)

    for record in decomposed:
        rewrite(record, lambda text: unicodedata.normalize("NFD", text))
    for at, record in enumerate(garbled):
        layers = 2 if at < MOJIBAKE_TWICE else 1
        rewrite(record, lambda text: mojibake(typographic(text), layers))
    for at, record in enumerate(others):
        if at < INVISIBLE:
            rewrite(record, lambda text: with_invisible(text, rng))
        elif at < INVISIBLE + CRLF:
            rewrite(record, lambda text: text.replace("\n", "\r\n") + "\r\n")
        else:
            rewrite(record, lambda text: rng.choice(["", " ", "\n"]) + text + rng.choice([" ", "\t", "\u00a0", "\n\n"]))


def texts(record):
    return [message["content"] for message in record["messages"]]


def rewrite(record, change):
    for message in record["messages"]:
        message["content"] = change(message["content"])


def typographic(text):
    """Straight quotation marks and apostrophes as a word processor would curl them."""
    text = re.sub(r"(^|(?<=[\s(]))'", "\u2018", text).replace("'", "\u2019")
    return re.sub(r"(^|(?<=[\s(\u2018]))\"", "\u201c", text).replace('"', "\u201d")


def mojibake(text, layers):
    """The text's UTF-8 read as Windows-1252, in which five bytes mean nothing and become C1 controls."""
    for _ in range(layers):
        text = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode("utf-8"))
    return text


def with_invisible(text, rng):
    """A byte-order mark before the text, or characters of no width inside it."""
    if rng.random() < 0.2:
        return "\ufeff" + text
    at = rng.randrange(1, len(text))
    return text[:at] + rng.choice(["\u200b", "\u00ad", "\u2060"]) + text[at:]


# Copies


def copied(records, rng):
    """The places of the records to copy, each with the kind of its copy."""
    kinds = [kind for kind, count in COPIES.items() for _ in range(count)]
    return zip(rng.sample(range(len(records)), len(kinds)), kinds)


def copy(record, line, kind, rng):
    if kind == "verbatim":
        return Raw(line.content, record["id"], "duplicate", line)
    if kind == "other format":
        others = [form for form in forms(record) if rendered(record, form) != line.content]
        return Raw(rendered(record, rng.choice(others)), record["id"], "duplicate", line)
    respelt = json.loads(json.dumps(record)) | {"id": f"{record['id']}-b"}
    change = rng.choice([str.lower, str.upper, wide, lambda text: text.replace(":", " -")])
    for message in respelt["messages"]:
        if message["role"] == "user":
            message["content"] = change(message["content"])
        message["content"] = re.sub(r"[.?]$", r"\g<0>\g<0>", message["content"])
    return Raw(rendered(respelt, pick_format(respelt, rng)), respelt["id"], "duplicate", line)


def wide(text):
    return text.replace(" ", "  ")


def put_copies_last(lines):
    """Swaps places where a copy stands before its original: cleaning keeps the first, and the original is to stay."""
    place = {id(line): at for at, line in enumerate(lines)}
    for line in [line for line in lines if line.original]:
        first, last = sorted([place[id(line)], place[id(line.original)]])
        lines[first], lines[last] = line.original, line
        place[id(line.original)], place[id(line)] = first, last


# Records that have to go


def faulty_line(entry, rng):
    """A line for an entry of dirt.jsonl: a whole line under `raw`, or a record."""
    fault = entry.pop("fault")
    if "raw" in entry:
        return Raw(entry["raw"].encode(entry.get("encoding", "utf-8")), None, fault)
    return Raw(rendered(entry, pick_format(entry, rng)), entry["id"], fault)


# Formats


def forms(record):
    is_pair = [message["role"] for message in record["messages"]] == ["user", "assistant"]
    return list(FORMATS) if is_pair else ["messages", "conversations"]


def pick_format(record, rng):
    possible = forms(record)
    return rng.choices(possible, [FORMATS[form] for form in possible])[0]


def rendered(record, form):
    """The record as one line of JSON. Each format keeps the keys that are not part of the conversation."""
    messages = record["messages"]
    if form == "messages":
        body = {"messages": messages}
    elif form == "conversations":
        turns = [{"from": SHAREGPT.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in messages]
        body = {"conversations": turns}
    elif form == "alpaca":
        instruction, _, more = messages[0]["content"].partition("\n")
        body = {"instruction": instruction, "input": more, "output": messages[1]["content"]}
    else:
        body = {"prompt": messages[0]["content"], "completion": messages[1]["content"]}
    rest = {key: value for key, value in record.items() if key not in ("id", "messages")}
    return json.dumps({"id": record["id"]} | body | rest, ensure_ascii=False).encode("utf-8")


if __name__ == "__main__":
    main()
