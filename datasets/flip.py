#!/usr/bin/env python3
"""Gives a share of a data set's records a wrong label, to measure how many of them `audit` finds.

    python3 datasets/flip.py datasets/vakog/parts/recognise.jsonl --out flipped.jsonl --list flipped.txt

The first line of a record's last answer is its label. A flipped record gets one of the other labels, drawn evenly, there
and in every field that says the old one. The list has the ids of the flipped records, one a line. The same seed flips the
same records. Reads JSON lines with `messages` or `prompt` and `completion`, and CSV with `prompt` and `completion`.
"""

import argparse
import csv
import json
import random


def load(path):
    with open(path, encoding="utf-8", newline="") as file:
        if path.endswith(".csv"):
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file if line.strip()]


def save(path, records):
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.endswith(".csv"):
            table = csv.DictWriter(file, list(records[0]))
            table.writeheader()
            table.writerows(records)
        else:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def answer(record):
    """The object that has the answer, and its key."""
    return (record["messages"][-1], "content") if "messages" in record else (record, "completion")


def label(record):
    place, key = answer(record)
    return place[key].lstrip().split("\n")[0].strip()


def flip(record, new):
    old = label(record)
    for key, value in record.items():
        if value == old and key not in ("id", "prompt", "completion"):
            record[key] = new
    place, key = answer(record)
    place[key] = place[key].replace(old, new, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--share", type=float, default=0.05, help="the share of the records to flip")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True, help="the flipped data, in the format of the data")
    parser.add_argument("--list", required=True, help="the ids of the flipped records")
    arguments = parser.parse_args()
    records = load(arguments.data)
    # A label stands at least twice: an answer that was mistyped is no class.
    said = [label(record) for record in records]
    labels = sorted({one for one in said if said.count(one) > 1})
    dice = random.Random(arguments.seed)
    eligible = [at for at, one in enumerate(said) if one in labels]
    chosen = sorted(dice.sample(eligible, round(arguments.share * len(eligible))))
    for at in chosen:
        flip(records[at], dice.choice([other for other in labels if other != said[at]]))
    save(arguments.out, records)
    with open(arguments.list, "w", encoding="utf-8") as file:
        file.writelines(f"{records[at]['id']}\n" for at in chosen)
    print(f"{len(chosen)} of {len(records)} records flipped, of the labels {', '.join(labels)}")


if __name__ == "__main__":
    main()
