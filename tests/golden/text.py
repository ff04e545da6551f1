#!/usr/bin/env python3
"""Plain text for continued pre-training: ids and labels of transformers, and ten steps of PEFT on `gqa`, in `text.json`.

    pip install peft==0.21.2 torch==2.15.0 transformers==5.24.0
    python text.py           # rewrite text.json beside this file
    python text.py --check   # exit 1 when a number of it would change

`tokenized` has what the tokenizers and DataCollatorForLanguageModeling make of a text and its end token. `pieces` are
sequences for the tiny model, cut into pieces of LENGTH ids: a piece begins with the last id of the one before it, so that
shifted labels, which leave out a sequence's first id, count every id once. The loss of a step is transformers' own.
"""
import json
import os
import pathlib
import re
import sys

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
import peft
import torch
import transformers

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model" / "gqa"
BOS, EOS, STEPS, LR, LENGTH = 1, 2, 10, 1e-2, 9
TEXTS = [
    "The harbour lay still.\n\nA bell rang twice, then nothing.",
    "  indented = True\n\treturn indented  ",
    "Zwölf Boxkämpfer jagen Viktor — 12 345 mal! 🙂",
    "one",
]
LENGTHS = [4, 9, 10, 17, 26]


def tokenized():
    found = {}
    for name in ("mini-first", "mini-legacy", "smollm2"):
        folder = HERE / "tokenizers" / name
        eos = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), eos_token=eos, pad_token="<unk>" if "mini" in name else "<|endoftext|>")
        collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
        rows = []
        for text in TEXTS:
            ids = tokenizer(text + eos)["input_ids"]
            labels = collator([{"input_ids": ids}])["labels"][0].tolist()
            # The model shifts the labels: the first of them is never asked for.
            rows.append({"text": text, "input_ids": ids, "trained": [0] + [int(label != -100) for label in labels[1:]]})
        found[name] = rows
    return found


def sequences():
    generator = torch.Generator().manual_seed(20261130)
    return [[BOS] + torch.randint(3, 97, (n - 2,), generator=generator).tolist() + [EOS] for n in LENGTHS]


def pieces(ids):
    out, start = [], 0
    while start == 0 or start < len(ids) - 1:
        out.append(ids[start:start + LENGTH])
        start += LENGTH - 1
    return out


def run():
    base = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, MODEL / "adapter_init", is_trainable=True).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=0.0)
    batch = [piece for ids in sequences() for piece in pieces(ids)]
    trained = sum(len(piece) - 1 for piece in batch)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = 0.0
        for piece in batch:
            ids = torch.tensor([piece])
            part = model(input_ids=ids, labels=ids).loss * (len(piece) - 1) / trained
            part.backward()
            loss += part.item()
        losses.append(loss)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.requires_grad]).item())
        optimizer.step()
    return {"losses": losses, "grad_norms": norms}


def main():
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    found = {"versions": versions, "tokenized": tokenized(), "learning_rate": LR, "length": LENGTH,
             "sequences": sequences(), "pieces": [pieces(ids) for ids in sequences()], **run()}
    path = HERE / "text.json"
    if "--check" in sys.argv:
        known = json.loads(path.read_text())
        same = all(known[key] == found[key] for key in ("tokenized", "sequences", "pieces")) and all(
            abs(a - b) <= 1e-5 + 1e-5 * abs(b)
            for key in ("losses", "grad_norms") for a, b in zip(found[key], known[key], strict=True))
        sys.exit(0 if same else "text.json is not what PEFT and transformers say")
    text = json.dumps(found, indent=1, ensure_ascii=False)
    one_line = lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", one_line, text) + "\n")


main()
