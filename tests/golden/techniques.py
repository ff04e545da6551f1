#!/usr/bin/env python3
"""What PEFT and transformers make of ten steps with LoRA+ and with NEFTune on the tiny model `gqa`, in `techniques.json`.

    pip install peft==0.21.2 torch==2.15.0 transformers==5.24.0
    python techniques.py           # rewrite techniques.json beside this file
    python techniques.py --check   # exit 1 when a number of it would change

The adapter is `model/gqa/adapter_init`. LoRA+ is PEFT's `create_loraplus_optimizer`, NEFTune is transformers' own hook;
of its noise, the uniform numbers alone are replaced by those that foehn-kernels draws (`uniform`, written out below),
because no two random generators agree. Each sample is computed by itself, so that no padding counts as length.
"""
import json
import os
import pathlib
import re
import sys
from unittest import mock

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
import peft
import torch
import transformers
from peft.optimizers import create_loraplus_optimizer
from transformers.integrations.neftune import neftune_post_forward_hook

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model" / "gqa"
EOS, STEPS = 2, 10
RUNS = {
    "loraplus": dict(learning_rate=2e-3, loraplus_lr_ratio=8.0, neftune_noise_alpha=0.0),
    "neftune": dict(learning_rate=1e-2, loraplus_lr_ratio=1.0, neftune_noise_alpha=10.0),
}
LENGTHS = [(7, 4), (3, 9), (12, 1), (5, 6)]  # of a prompt and of its answer
MASK = 2**64 - 1


def samples():
    generator = torch.Generator().manual_seed(20261130)
    draw = lambda n: torch.randint(3, 97, (n,), generator=generator).tolist()
    return [{"prompt": [1] + draw(prompt - 1), "answer": draw(answer - 1) + [EOS]} for prompt, answer in LENGTHS]


def uniform(seed, count):
    """The first `count` numbers from 0 to 1 of a seed: 24 bits of SplitMix64."""
    found = []
    for place in range(count):
        z = (seed + place * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(((z ^ (z >> 31)) >> 40) / 2**24)
    return torch.tensor(found, dtype=torch.float32)


def run(learning_rate, loraplus_lr_ratio, neftune_noise_alpha):
    base = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, MODEL / "adapter_init", is_trainable=True).train()
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=learning_rate, loraplus_lr_ratio=loraplus_lr_ratio, loraplus_weight_decay=0.0,
        weight_decay=0.0)
    if neftune_noise_alpha:
        embeddings = base.get_input_embeddings()
        embeddings.neftune_noise_alpha = neftune_noise_alpha
        embeddings.register_forward_hook(neftune_post_forward_hook)
    given, losses, norms = samples(), [], []
    supervised = sum(len(sample["answer"]) for sample in given)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = 0.0
        for at, sample in enumerate(given):
            seed = MASK ^ (1000 * step + at)

            def ours(tensor, low, high):
                return tensor.copy_(low + (high - low) * uniform(seed, tensor.numel()).view_as(tensor))

            ids = torch.tensor([sample["prompt"] + sample["answer"]])
            labels = ids.clone()
            labels[0, : len(sample["prompt"])] = -100
            with mock.patch.object(torch.Tensor, "uniform_", ours):
                logits = model(input_ids=ids).logits
            part = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum") / supervised
            part.backward()
            loss += part.item()
        losses.append(loss)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.requires_grad]).item())
        optimizer.step()
    return {"learning_rate": learning_rate, "loraplus_lr_ratio": loraplus_lr_ratio,
            "neftune_noise_alpha": neftune_noise_alpha, "losses": losses, "grad_norms": norms}


def main():
    runs = {name: run(**settings) for name, settings in RUNS.items()}
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    found = {"versions": versions, "samples": samples(), "runs": runs}
    path = HERE / "techniques.json"
    if "--check" in sys.argv:
        known = json.loads(path.read_text())
        same = known["samples"] == found["samples"] and all(
            abs(a - b) <= 1e-5 + 1e-5 * abs(b)
            for name, numbers in found["runs"].items()
            for key in ("losses", "grad_norms")
            for a, b in zip(numbers[key], known["runs"][name][key], strict=True))
        sys.exit(0 if same else "techniques.json is not what PEFT and transformers say")
    text = json.dumps(found, indent=1)
    one_line = lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", one_line, text) + "\n")


main()
