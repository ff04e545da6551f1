#!/usr/bin/env python3
"""Makes the two files of the walk in docs/guide.md: data with the faults of a first and a second attempt.

    python3 datasets/vakog/attempts/make.py

`first.jsonl` has questions about single sentences. In three of four, the answer goes on with the next question and its answer,
as in a chat log that was cut in the wrong places. `second.jsonl` has descriptions. In two of three, the second half is
that of another sense, from the same scene. Both are made from `vakog_clean.jsonl` alone, the same bytes each time.
"""
import hashlib
import json
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
RECORDS = [json.loads(line) for line in (HERE.parent / "vakog_clean.jsonl").read_text().splitlines()]
FIRST, SECOND = 240, 180


def shuffled(records):
    return sorted(records, key=lambda record: hashlib.sha256(record["id"].encode()).hexdigest())


def written(name, records):
    (HERE / name).write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def record(of, answer):
    asked = of["messages"][0]["content"]
    return {"prompt": asked, "completion": answer} | {key: of[key] for key in ("task", "modality", "group")}


def first():
    """Every fourth answer is whole; the others go on."""
    short = [record for record in shuffled(RECORDS) if record["task"] == "recognise" and len(record["messages"]) == 2]
    out = []
    for at, of in enumerate(short[:FIRST]):
        answer, other = of["messages"][1]["content"], short[FIRST + at]["messages"]
        if at % 4:
            answer += f"\nUser: {other[0]['content']}\nAssistant: {other[1]['content']}"
        out.append(record(of, answer))
    return out


def halves(text):
    sentences = re.findall(r"\S.*?[.!?]['’”\"]*(?=\s|$)", text)
    middle = (len(sentences) + 1) // 2
    return " ".join(sentences[:middle]), " ".join(sentences[middle:])


def second():
    """Every third description is whole; the others end in another sense."""
    whole = [record for record in shuffled(RECORDS) if record["task"] == "describe" and len(record["messages"]) == 2]
    by_scene = {}
    for of in whole:
        by_scene.setdefault(of["group"], []).append(of)
    out = []
    for of in whole:
        answer = of["messages"][1]["content"]
        others = [other for other in by_scene[of["group"]] if other["modality"] != of["modality"]]
        ends = [end for other in others if (end := halves(other["messages"][1]["content"])[1])]
        begins = halves(answer)[0]
        if not ends or len(answer) > 260:
            continue
        out.append(record(of, answer if len(out) % 3 == 0 else f"{begins} {ends[len(out) % len(ends)]}"))
    return out[:SECOND]


if __name__ == "__main__":
    written("first.jsonl", first())
    written("second.jsonl", second())
