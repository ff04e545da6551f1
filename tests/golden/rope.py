#!/usr/bin/env python3
"""What transformers makes of the tiny model `gqa` with scaled rotary frequencies, in `rope.json`.

    pip install peft==0.21.2 torch==2.15.0 transformers==5.24.0
    python rope.py           # rewrite rope.json beside this file
    python rope.py --check   # exit 1 when a number of it would change

For each scaling: the frequencies, the log-probabilities of a text of 60 tokens (longer than the original length), and the
norm of the gradient of its mean with respect to `model/gqa/adapter_init`.
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

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model" / "gqa"
LENGTH = 60
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn_of_ministral": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16, "beta_fast": 4.0,
                          "beta_slow": 0.5, "mscale": 1.0, "mscale_all_dim": 1.0},
    "yarn_untruncated": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 24, "beta_fast": 3.0,
                         "beta_slow": 1.0, "attention_factor": 0.8, "truncate": False},
}


def run(scaling):
    config = transformers.AutoConfig.from_pretrained(MODEL)
    config.rope_parameters = {"rope_theta": 1e4, **scaling}
    base = transformers.AutoModelForCausalLM.from_pretrained(
        MODEL, config=config, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, MODEL / "adapter_init", is_trainable=True)
    ids = torch.randint(3, 97, (1, LENGTH), generator=torch.Generator().manual_seed(7))
    logits = model(input_ids=ids).logits[0, :-1]
    log_probs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    (-log_probs.mean()).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    return {"scaling": scaling, "frequencies": base.model.rotary_emb.inv_freq.tolist(), "input_ids": ids[0].tolist(),
            "log_probs": log_probs.tolist(), "grad_norm": torch.nn.utils.get_total_norm(gradients).item()}


def main():
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    found = {"versions": versions, "runs": {name: run(scaling) for name, scaling in SCALINGS.items()}}
    path = HERE / "rope.json"
    if "--check" in sys.argv:
        known = json.loads(path.read_text())["runs"]
        same = all(
            abs(a - b) <= 1e-5 + 1e-5 * abs(b)
            for name, numbers in found["runs"].items()
            for key in ("frequencies", "log_probs")
            for a, b in zip(numbers[key], known[name][key], strict=True))
        sys.exit(0 if same else "rope.json is not what transformers says")
    text = json.dumps(found, indent=1)
    one_line = lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", one_line, text) + "\n")


main()
