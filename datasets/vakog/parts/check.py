"""Checks the hand-written records of the VAKOG data against each other, the probes and the lexicon.

    python3 datasets/vakog/parts/check.py

Prints the counts, then one line an offence, and exits with 1 where there is any. It changes nothing.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

PARTS = Path(__file__).resolve().parent
PROBES = PARTS.parent / "probes"
LEXICON = PARTS.parent / "lexicon.json"
PLAIN = PARTS.parent / "vakog_plain.jsonl"

MODALITIES = ["Visual", "Auditory", "Kinesthetic", "Olfactory", "Gustatory"]
KEYS = ["id", "messages", "task", "modality", "source", "licence", "group"]
PRODUCTION = {"describe", "rewrite"}
PROSE = {"describe", "rewrite", "explain"}

# Other names of the held-out scenes that would give them away just as well.
OTHER_NAMES = {
    "storm": ["thunderstorm", "storms"],
    "train station": ["railway station", "train platform"],
    "beach": ["seaside", "seashore"],
    "market": ["bazaar", "market stall"],
    "campfire": ["camp fire", "bonfire"],
    "snowfall": ["snowstorm", "blizzard", "falling snow"],
    "garden at dawn": ["garden at sunrise"],
    "swimming pool": ["swimming baths"],
    "circus": ["big top"],
    "airport": ["departure lounge"],
    "fishing boat": ["trawler"],
    "attic": ["loft"],
}


def main():
    records = read_parts()
    probes = read_probes()
    scenes = read_lines(PROBES / "production.jsonl")
    lexicon = json.loads(LEXICON.read_text(encoding="utf-8"))

    print_counts(records)
    checks = [
        ("shape", check_shape(records)),
        ("duplicate sentence", check_duplicates(records)),
        ("5-gram Jaccard over 0.5", check_near_duplicates(records)),
        ("probe in training", check_probes(records, probes)),
        ("held-out scene", check_scenes(records, scenes)),
        ("off-target word", check_off_target(records, lexicon)),
        ("label", check_labels(records)),
        ("final punctuation", check_punctuation(records)),
    ]
    print_coverage(records, lexicon)

    offences = 0
    for name, found in checks:
        print(f"\n{name}: {len(found)}")
        for line in found:
            print(f"  {line}")
        offences += len(found)
    print(f"\n{offences} offences in {len(records)} records")
    sys.exit(1 if offences else 0)


# Reading


def read_lines(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def read_parts():
    return [record for path in [*sorted(PARTS.glob("*.jsonl")), PLAIN] for record in read_lines(path)]


def read_probes():
    """Every frozen sentence, with its id and group."""
    found = []
    for name in ["recognition", "hard", "choose", "explain", "rewrite"]:
        for probe in read_lines(PROBES / f"{name}.jsonl"):
            listed = [re.sub(r"^\d+\. ", "", choice) for choice in probe.get("choices", [])]
            found += [{**probe, "sentence": text} for text in listed or [probe["sentence"]]]
    return found


def words(text):
    """Lower-case words; apostrophes stay inside a word, hyphens part it, digits count."""
    text = text.lower().replace("\u2019", "'").replace("\u2018", "'")
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text)


def normalised(text):
    return " ".join(words(text))


def ngrams(tokens, n):
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def turns(record, role):
    return [message["content"] for message in record["messages"] if message["role"] == role]


def sentences(record):
    """What the author wrote, without the wording of the question: quoted sentences, listed ones and prose answers."""
    found = []
    for text in turns(record, "user"):
        quoted = re.search(r"(?:^|\s)'(.+)'", text, re.DOTALL)
        listed = re.findall(r"^\d+[.)] *(.+)$", text, re.MULTILINE)
        found += listed or ([quoted.group(1)] if quoted else [])
    if record["task"] != "choose":
        found += [text for text in turns(record, "assistant") if text.strip(" .") not in MODALITIES]
    return found


# Checks: each returns a list of lines, one an offence


def check_shape(records):
    found = [f"{r.get('id')}: keys {list(r)}" for r in records if list(r) != KEYS]
    found += [f"{r['id']}: modality {r['modality']!r}" for r in records if r["modality"] not in allowed(r)]
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            found.append(f"{record['id']}: roles {roles}")
    ids = Counter(record["id"] for record in records)
    return found + [f"{i}: id used {n} times" for i, n in ids.items() if n > 1]


def allowed(record):
    """A sentence may also speak to no sense, or to several."""
    return MODALITIES + (["None", "Mixed"] if record["task"] == "recognise" else [])


def check_duplicates(records):
    owners = defaultdict(list)
    for record in records:
        for text in {normalised(sentence) for sentence in sentences(record)}:
            if " " in text:  # a user may well quote the same single word twice
                owners[text].append(record["id"])
    return [f"{', '.join(ids)}: {text}" for text, ids in owners.items() if len(ids) > 1]


def check_near_duplicates(records):
    grams = [set().union(*(ngrams(words(s), 5) for s in sentences(record))) for record in records]
    holders = defaultdict(list)
    for index, own in enumerate(grams):
        for gram in own:
            holders[gram].append(index)
    shared = Counter(pair for indices in holders.values() for pair in combinations(indices, 2))
    found = []
    for (a, b), common in shared.items():
        jaccard = common / (len(grams[a]) + len(grams[b]) - common)
        if jaccard > 0.5 and records[a]["group"] != records[b]["group"]:
            found.append(f"{records[a]['id']}, {records[b]['id']}: {jaccard:.2f}")
    return found


def check_probes(records, probes):
    found = []
    groups = {probe["group"] for probe in probes}
    for record in records:
        if record["group"] in groups:
            found.append(f"{record['id']}: group {record['group']}")
        text = " | ".join(normalised(message["content"]) for message in record["messages"])
        own = ngrams(text.split(), 8)
        for probe in probes:
            whole = normalised(probe["sentence"])
            if f" {whole} " in f" {text} ":
                found.append(f"{record['id']}: holds {probe['id']}: {whole}")
            elif shared := own & ngrams(whole.split(), 8):
                found.append(f"{record['id']}: shares 8 words with {probe['id']}: {' '.join(min(shared))}")
    return found


def check_scenes(records, scenes):
    """A scene counts as used where a user asks for a description of it, in whichever task."""
    found = []
    for record in records:
        for text in turns(record, "user"):
            if not re.match(r"describe|give me|write", text, re.IGNORECASE):
                continue
            asked = f" {normalised(text)} "
            for scene in scenes:
                name = re.sub(r"^an? ", "", scene["scene"])
                used = [n for n in [name, *OTHER_NAMES.get(name, [])] if f" {n} " in asked]
                found += [f"{record['id']}: {n!r} in {text!r}" for n in used]
    return found


def check_off_target(records, lexicon):
    sense_of = {word: modality for modality, forms in lexicon.items() for word in forms}
    found = []
    for record in records:
        if record["task"] not in PRODUCTION:
            continue
        for word in words(turns(record, "assistant")[-1]):
            sense = sense_of.get(word.removesuffix("'s"), record["modality"])
            if sense != record["modality"]:
                found.append(f"{record['id']}: {word} ({sense})")
    return found


def check_labels(records):
    return [
        f"{record['id']}: answers {turns(record, 'assistant')[0]!r}, modality {record['modality']}"
        for record in records
        if record["task"] == "recognise" and turns(record, "assistant")[0] != record["modality"]
    ]


def check_punctuation(records):
    return [
        f"{record['id']}: ends {answer[-30:]!r}"
        for record in records
        if record["task"] in PROSE
        for answer in turns(record, "assistant")
        if not re.search(r"[.!?][\"')]*$", answer)
    ]


# Figures


def print_counts(records):
    counts = Counter((record["task"], record["modality"]) for record in records)
    print(f"{'':12}" + "".join(f"{modality:>12}" for modality in MODALITIES) + f"{'all':>12}")
    for task in sorted({record["task"] for record in records}):
        row = [counts[task, modality] for modality in MODALITIES]
        print(f"{task:12}" + "".join(f"{n:12}" for n in [*row, sum(row)]))
    row = [sum(n for (_, m), n in counts.items() if m == modality) for modality in MODALITIES]
    print(f"{'all':12}" + "".join(f"{n:12}" for n in [*row, sum(row)]))


def print_coverage(records, lexicon):
    """The share of descriptions and rewrites in which the lexicon knows at least one word of the asked sense."""
    total, covered = Counter(), Counter()
    for record in records:
        if record["task"] in PRODUCTION:
            total[record["modality"]] += 1
            covered[record["modality"]] += not set(lexicon[record["modality"]]).isdisjoint(
                words(turns(record, "assistant")[-1])
            )
    if total:
        shares = [f"{m} {covered[m] / total[m]:.2f}" for m in MODALITIES if total[m]]
        print(f"\ncoverage by the lexicon: {', '.join(shares)}")


if __name__ == "__main__":
    main()
