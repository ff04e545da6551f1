r"""A suite for choosing a recipe or a decoding by: the sentences and scenes of records that were held out from training.

    cargo run --release --example split -- datasets/vakog/vakog_clean.jsonl --label task --training train.jsonl \
        --validation dev.jsonl
    python3 datasets/vakog/parts/dev_suite.py dev.jsonl dev
    cargo run --release --example finetune -- --data train.jsonl --out runs/dev --no-evaluation
    cargo run --release --example evaluate -- --adapter runs/dev/adapter --suite dev/suite.toml

The frozen probes are for the end: whoever chooses by them has nothing left to be judged by. Writes `recognition.jsonl`,
`production.jsonl` and `suite.toml` into the folder. The records that the default run itself held out are those of
`split runs/vakog/clean.jsonl --fraction 0.02 --seed 1 --label task`.
"""
import hashlib, json, pathlib, re, sys

SCENES = [
    r"Describe (.+) using the \w+ modality\.",
    r"Describe (.+) in \w+ language only\.",
    r"Give me an? \w+ description of (.+)\.",
    r"Write about (.+) through the \w+ sense\.",
]
KINDS = {"lit": "literal", "idi": "idiom", "con": "conflict"}


def main():
    records, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    recognition, scenes = [], {}
    for line in records.read_text().splitlines():
        record = json.loads(line)
        asked = next(message["content"] for message in record["messages"] if message["role"] == "user")
        if record["task"] == "recognise":
            sentence = re.search(r"['‘“\"](.*)['’”\"]", asked, re.S).group(1)
            kind = KINDS[record["id"].split("-")[1]]
            shared = {key: record[key] for key in ("id", "modality", "group")}
            recognition.append(shared | {"sentence": sentence, "kind": kind})
        elif record["task"] == "describe":
            found = [match.group(1) for match in (re.fullmatch(scene, asked) for scene in SCENES) if match]
            if found:
                scenes.setdefault(found[0], record["group"])
    production = [{"id": group, "scene": scene, "group": group} for scene, group in sorted(scenes.items())]
    frozen = pathlib.Path(__file__).resolve().parent.parent / "probes"
    suite = (frozen / "suite.toml").read_text()
    suite = re.sub(r"^(#.*\n)+", f"# Made from {records} by dev_suite.py.\n", suite)
    suite = re.sub(r'name = ".*"', 'name = "vakog-dev"', suite, count=1)
    out.mkdir(parents=True, exist_ok=True)
    for name, probes in ("recognition.jsonl", recognition), ("production.jsonl", production):
        text = "".join(json.dumps(probe, ensure_ascii=False) + "\n" for probe in probes)
        digest = hashlib.sha256(text.encode()).hexdigest()
        suite = re.sub(rf'(file = "{name}"\nsha256 = ").*"', rf'\g<1>{digest}"', suite)
        (out / name).write_text(text)
    for name in ("lexicon_unseen.json", "../lexicon.json"):
        suite = suite.replace(f'"{name}"', json.dumps(str((frozen / name).resolve())))
    (out / "suite.toml").write_text(suite)
    print(f"{len(recognition)} sentences and {len(production)} scenes in {out / 'suite.toml'}")


main()
