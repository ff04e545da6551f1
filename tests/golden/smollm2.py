"""Everything that a comparison of Foehn with transformers and PEFT on SmolLM2-135M-Instruct starts from, in one command.

    python smollm2.py --out FOLDER [--model FOLDER] [--peers FOLDER]

Run by hand: the model is half a gigabyte and its results differ by machine, so nothing of it is committed. Writes

    rows.jsonl      ten English texts as {"input_ids"}, for `hf_score.py` and for Foehn's own scores
    train.jsonl     ten steps of four conversations as {"input_ids", "loss_mask"}, for `peft_train.py` and for Foehn's training
    adapter/        an adapter saved by PEFT (r 8, alpha 16, every linear) whose B is not zero: both start from it
    manifest.json   the seed, the settings of the steps, the versions, and the hashes of the model and of the files above

and prints the peers' commands that come next. The same model and versions give the same bytes.
"""
import argparse, hashlib, json, os, pathlib

os.environ["HF_HUB_OFFLINE"] = "1"
import peft, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

SEED, STEPS, BATCH, LR = 20261122, 10, 4, 2e-4
LORA = dict(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")

TEXTS = [
    "The ferry leaves at ten past six, and nobody on the quay seems to be in a hurry.",
    "Water boils at 100 °C at sea level; on a mountain of 3,000 metres it boils at about 90 °C, which is why potatoes take longer there.",
    "\"You can't be serious,\" she said. He was. He'd already packed the tent, two stoves and eleven tins of beans.",
    "To do before Friday:\n- call the plumber (he's cheaper than the last one)\n- return books: 2 of 5 are overdue\n- find out why the cat won't eat\n",
    "My grandmother kept bees behind the vineyard wall. In June the whole slope hummed, and we children learnt to walk slowly, "
    "because a bee forgives a slow child and never a quick one. When the warm wind came down from the pass she would shut the "
    "windows, wet the sheets, and tell us that on such days even the clocks were in a bad temper. We believed her. I still do.",
    "Dear Ms Ólafsdóttir,\n\nThank you for your letter of 3 May. The naïve answer would be yes; the honest one is: not before autumn.\n\nYours,\nJ. Müller",
    "To make the dough, mix 500 g of flour with 10 g of salt and 7 g of dry yeast. Add 320 ml of lukewarm water. Knead for ten "
    "minutes, cover, and leave it to rise until it has doubled. Fold it twice, shape it, and bake it at 230 degrees for 35 minutes.",
    "Yes.",
    "A prime number has exactly two divisors. Since every even number above two is divisible by two, all primes above two are odd. "
    "It does not follow that all odd numbers are prime: 9 = 3 * 3, 15 = 3 * 5, 21 = 3 * 7.",
    "The committee met on Tuesday, on Wednesday, and again on Friday; it decided on nothing, but it decided on it unanimously.   \n\n\tMinutes attached.",
]

SENSES = [
    ("What modality is: 'The lake lay like a sheet of dark glass'?", "Visual"),
    ("What modality is: 'His name rings a bell'?", "Auditory"),
    ("What modality is: 'She felt the weight of the question'?", "Kinesthetic"),
    ("What modality is: 'Something about the contract smells off'?", "Olfactory"),
    ("What modality is: 'Victory left a sour aftertaste'?", "Gustatory"),
    ("What modality is: 'I can picture the whole street'?", "Visual"),
    ("What modality is: 'Their plans were drowned out by louder voices'?", "Auditory"),
    ("What modality is: 'He kept a tight grip on the budget'?", "Kinesthetic"),
    ("What modality is: 'Wet earth and pine resin drifted in'?", "Olfactory"),
    ("What modality is: 'The soup wants salt'?", "Gustatory"),
    ("Why is 'I see what you mean' Visual?", "It speaks of understanding as seeing: the meaning comes into view."),
    ("Why is 'That strikes a chord' Auditory?", "A chord is something that is heard; agreement is told as a sound that answers."),
    ("Why is 'Get a grip' Kinesthetic?", "To grip is to hold with the hand. Self-control is told as a hold on something."),
    ("Why is 'He has a nose for trouble' Olfactory?", "The nose stands for noticing: trouble is found by its smell."),
    ("Why is 'A bitter quarrel' Gustatory?", "Bitter is a taste, and the quarrel is felt as that taste."),
    ("Describe a bakery using the Olfactory modality.", "Warm yeast meets you at the door, then scorched flour, then butter. Under it all sits the dark scent of rye."),
    ("Describe a bakery using the Auditory modality.", "Trays clatter, crusts crackle as they cool, and the doorbell pings over the murmur of the queue."),
    ("Describe a storm using the Visual modality.", "The sky goes slate, then white for an instant. Rain draws grey lines across the yard and blurs the far trees."),
    ("Describe a storm using the Kinesthetic modality.", "The air presses down, heavy and damp. Wind shoves at your back, and cold drops sting your neck."),
    ("Describe a lemon using the Gustatory modality.", "Sharp and sour at once, with a bitter edge from the peel and a faint sweetness that comes too late."),
    ("Rewrite in the Auditory modality: 'The crowd looked angry.'", "The crowd growled."),
    ("Rewrite in the Kinesthetic modality: 'I see a way out.'", "I can feel my way out."),
    ("Rewrite in the Visual modality: 'That sounds wrong.'", "That looks wrong."),
    ("Rewrite in the Gustatory modality: 'The news was unpleasant.'", "The news left a bad taste."),
    ("Rewrite in the Olfactory modality: 'I suspect a trick.'", "I smell a rat."),
    ("Which is Olfactory: (a) 'The paint gleamed.' (b) 'The paint reeked.' (c) 'The paint was tacky.'", "(b) 'The paint reeked.'"),
    ("Which is Kinesthetic: (a) 'a loud shirt' (b) 'a rough cloth' (c) 'a bright scarf'", "(b) 'a rough cloth'"),
    ("Which is Auditory: (a) 'He tapped the glass and it sang.' (b) 'He lifted the glass.'", "(a) 'He tapped the glass and it sang.'"),
    ("Name the five senses of the model.", "Visual, Auditory, Kinesthetic, Olfactory and Gustatory."),
    ("Is 'a warm tone of voice' Kinesthetic or Auditory?", "Auditory: the tone is heard, and warm only colours it."),
    ("Is 'gut feeling' Gustatory or Kinesthetic?", "Kinesthetic: it is felt in the body and not tasted."),
    ("Describe snow using the Kinesthetic modality.", "It gives under the boot, then packs hard. A handful burns, then numbs."),
    ("Describe snow using the Visual modality.", "A white field without edges, blue in its hollows, glittering where the sun slants over it."),
    ("Describe a forest using the Auditory modality.", "Leaves hiss, a branch creaks, and somewhere a woodpecker knocks twice and waits."),
]
TALKS = [  # user, assistant, user, assistant, ..; a talk that begins with None has a system message of its own
    ["What modality is: 'Shed some light on it'?", "Visual", "And 'Tell it like it is'?", "Auditory"],
    ["Describe a train using the Auditory modality.", "Wheels clack over the joints and the horn moans.", "Now the Olfactory modality.", "Hot brakes, diesel, and the stale breath of old seats."],
    [None, "Answer in one word.", "What modality is: 'a slippery customer'?", "Kinesthetic"],
    ["Is 'sharp cheese' a touch?", "No.", "What then?", "Gustatory", "Is 'sharp cut' one?", "Yes, Kinesthetic."],
    ["Rewrite in the Visual modality: 'I hear you.'", "I see your point.", "In the Kinesthetic one?", "I feel for you."],
    [None, "You teach the language of the senses.\nBe brief.", "Why is 'a whiff of scandal' Olfactory?", "A whiff is a smell, faint and passing."],
]


def messages(talk):
    """The talk as messages; an odd one out at the front is the system's."""
    system, turns = ([{"role": "system", "content": talk[1]}], talk[2:]) if talk[0] is None else ([], talk)
    return system + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def sample(tokenizer, talk):
    """Ids of the whole talk; the mask marks each answer and its stop token, and not the line end that the template adds."""
    ids_of = lambda turns, **kw: tokenizer(tokenizer.apply_chat_template(turns, tokenize=False, **kw), add_special_tokens=False).input_ids
    ids = ids_of(talk)
    mask = [0] * len(ids)
    for i, turn in enumerate(talk):
        if turn["role"] == "assistant":
            before, after = ids_of(talk[:i], add_generation_prompt=True), ids_of(talk[: i + 1])
            assert ids[: len(before)] == before and ids[: len(after)] == after, "a prompt is no prefix of its sample"
            assert after[-2] == tokenizer.eos_token_id, "an answer does not end in the stop token"
            mask[len(before) : len(after) - 1] = [1] * (len(after) - 1 - len(before))
    return {"input_ids": ids, "loss_mask": mask}


def write_adapter(model_folder, out):
    """PEFT's own files, less its model card, with A as PEFT draws it and a small B, so that every gradient is there at step one."""
    torch.manual_seed(SEED)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32), peft.LoraConfig(**LORA))
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.01, generator=generator)
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.target_modules = "smollm2", sorted(config.target_modules)
    model.save_pretrained(out / "adapter", save_embedding_layers=False)
    (out / "adapter/README.md").unlink()


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main():
    home = pathlib.Path(os.environ.get("FOEHN_PEERS", "~/.cache/foehn-peers")).expanduser()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=home / "smollm2", help="Hugging Face folder (default: smollm2 in $FOEHN_PEERS or ~/.cache/foehn-peers)")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--peers", default="../shared/peers", help="where hf_score.py and peft_train.py lie, for the printed commands")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    write_rows(o.out / "rows.jsonl", [{"input_ids": tokenizer(text, add_special_tokens=False).input_ids} for text in TEXTS])
    # A stride spreads the kinds and lengths over the steps; 7 and 40 have no common divisor.
    talks = [messages(talk) for talk in [*map(list, SENSES), *TALKS]]
    assert len(talks) == STEPS * BATCH
    write_rows(o.out / "train.jsonl", [sample(tokenizer, talks[i * 7 % len(talks)]) for i in range(len(talks))])
    write_adapter(o.model, o.out)
    inputs = {name: sha256(o.model / name) for name in ("config.json", "model.safetensors", "tokenizer.json")}
    outputs = {name: sha256(o.out / name) for name in ("rows.jsonl", "train.jsonl", "adapter/adapter_config.json", "adapter/adapter_model.safetensors")}
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    manifest = {"seed": SEED, "steps": STEPS, "batch": BATCH, "lr": LR, "weight_decay": 0.0, "versions": versions, "model": inputs, "files": outputs}
    (o.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    args = f"--model {o.model}"
    print(f"python {o.peers}/hf_score.py {args} < {o.out}/rows.jsonl > {o.out}/score_base.jsonl")
    print(f"python {o.peers}/hf_score.py {args} --adapter {o.out}/adapter < {o.out}/rows.jsonl > {o.out}/score_adapter.jsonl")
    print(f"python {o.peers}/peft_train.py {args} --rows {o.out}/train.jsonl --batch {BATCH} --steps {STEPS} --lr {LR} "
          f"--init {o.out}/adapter --save {o.out}/peft > {o.out}/peft.json")


if __name__ == "__main__":
    main()
