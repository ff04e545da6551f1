#!/usr/bin/env python3
"""How far PyTorch's bfloat16 is from float64 on the tiny models, in `bf16.json`: what Foehn's `compute = "bf16"` is held to.

    pip install peft==0.21.2 torch==2.15.0 transformers==5.24.0
    python bf16.py           # rewrite bf16.json beside this file
    python bf16.py --check   # exit 1 when a number of it is another one, by more than a tenth

The base is loaded in bfloat16, the adapter `adapter_init` stays in float32 (PEFT's default), as `peft_train.py --dtype
bfloat16` trains. For each model: the error of the loss, the relative error of all gradients together
(‖found − exact‖ / ‖exact‖), and the largest error of a loss in ten steps of AdamW without decay or clipping.
"""
import json
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
import peft
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
STEPS, LR = 10, 1e-2


def run(folder, samples, dtype):
    base = transformers.MistralForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, folder / "adapter_init", is_trainable=True)
    if dtype == torch.float64:
        model = model.double()
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(params.values(), lr=LR, weight_decay=0.0)
    losses, first = [], None
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = count = 0
        for sample in samples:
            ids = torch.tensor([sample["input_ids"]])
            mask = torch.tensor(sample["loss_mask"])[1:].bool()
            logits = model(ids).logits[0, :-1][mask]
            logits = logits if dtype == torch.float64 else logits.float()
            total = total + torch.nn.functional.cross_entropy(logits, ids[0, 1:][mask], reduction="sum")
            count += int(mask.sum())
        loss = total / count
        loss.backward()
        losses.append(loss.item())
        first = first or {name: p.grad.double().clone() for name, p in params.items()}
        optimizer.step()
    return losses, first


def measured(name):
    folder = HERE / "model" / name
    samples = json.loads((folder / "expected.json").read_text())["samples"]
    exact, gradients = run(folder, samples, torch.float64)
    rounded, found = run(folder, samples, torch.bfloat16)
    square = lambda of: sum(float((value**2).sum()) for value in of.values()) ** 0.5
    return {
        "loss": abs(rounded[0] - exact[0]),
        "gradients": square({key: found[key] - gradients[key] for key in found}) / square(gradients),
        "losses": max(abs(a - b) for a, b in zip(rounded, exact)),
        "exact_losses": exact,
    }


def main():
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    made = {"versions": versions} | {name: measured(name) for name in ["gqa", "window"]}
    path = HERE / "bf16.json"
    if "--check" in sys.argv:
        known = json.loads(path.read_text())
        near = lambda a, b: abs(a - b) <= 0.1 * abs(b)
        same = all(near(made[n][k], known[n][k]) for n in ["gqa", "window"] for k in ["loss", "gradients", "losses"])
        sys.exit(0 if same else "bf16.json is not what these versions say here")
    path.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
