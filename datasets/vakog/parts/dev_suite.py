"""A suite for choosing a recipe by: the recognition questions of records that were held out from training.

    cargo run --release --example split -- datasets/vakog/vakog_clean.jsonl --training train.jsonl --validation dev.jsonl
    python3 datasets/vakog/parts/dev_suite.py dev.jsonl dev
    cargo run --release --example finetune -- --data train.jsonl --out runs/dev --no-evaluation
    cargo run --release --example evaluate -- --adapter runs/dev/adapter --suite dev/suite.toml

The frozen probes are for the end: whoever chooses by them has nothing left to be judged by. Writes `recognition.jsonl` and
`suite.toml` into the folder; the descriptions asked for are those of the frozen suite.
"""
import hashlib, json, pathlib, re, sys

KINDS = {"lit": "literal", "idi": "idiom", "con": "conflict"}


def main():
    records, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    probes = []
    for line in records.read_text().splitlines():
        record = json.loads(line)
        if record["task"] != "recognise":
            continue
        asked = next(message["content"] for message in record["messages"] if message["role"] == "user")
        sentence = re.search(r"['‘“\"](.*)['’”\"]", asked, re.S).group(1)
        kind = KINDS[record["id"].split("-")[1]]
        probes.append({key: record[key] for key in ("id", "modality", "group")} | {"sentence": sentence, "kind": kind})
    text = "".join(json.dumps(probe, ensure_ascii=False) + "\n" for probe in probes)
    frozen = pathlib.Path(__file__).resolve().parent.parent / "probes"
    suite = (frozen / "suite.toml").read_text()
    suite = re.sub(r"^(#.*\n)+", f"# Made from {records} by dev_suite.py.\n", suite)
    suite = re.sub(r'name = ".*"', 'name = "vakog-dev"', suite, count=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    suite = re.sub(r'(file = "recognition.jsonl"\nsha256 = ").*"', rf'\g<1>{digest}"', suite)
    for name in ("production.jsonl", "lexicon_unseen.json", "../lexicon.json"):
        suite = suite.replace(f'"{name}"', json.dumps(str((frozen / name).resolve())))
    out.mkdir(parents=True, exist_ok=True)
    (out / "recognition.jsonl").write_text(text)
    (out / "suite.toml").write_text(suite)
    print(f"{len(probes)} questions in {out / 'suite.toml'}")


main()
