"""What PEFT makes of target_modules, rank_pattern and alpha_pattern: which layers get an adapter, of which rank and scale.

    python tests/golden/lora_patterns.py        # writes lora_patterns.json; needs torch, transformers and peft
"""

import json
import re
import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers

HERE = Path(__file__).parent
SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES = [
    {"target_modules": "all-linear"},
    {"target_modules": ["q_proj"]},
    {"target_modules": ["self_attn.q_proj", "layers.1.mlp.up_proj"]},
    {"target_modules": r".*\.(q|v)_proj"},
    {"target_modules": r"model\.layers\.0\..*_proj"},
    {"target_modules": r"q_proj"},
    {"target_modules": ["wq"]},
    # The first of several that match decides, in the order of the file, whether it is the longer one or not.
    {"target_modules": SUFFIXES, "rank_pattern": {"q_proj": 2, "model.layers.0.self_attn.q_proj": 3}},
    {"target_modules": SUFFIXES, "rank_pattern": {"model.layers.0.self_attn.q_proj": 3, "q_proj": 2}},
    {"target_modules": SUFFIXES, "rank_pattern": {"_proj": 5, "q_proj": 2}, "alpha_pattern": {"q_proj": 32}},
    {"target_modules": SUFFIXES, "alpha_pattern": {"mlp.up_proj": 1, "up_proj": 64, "^model.layers.1.self_attn.v_proj": 7}},
    {"target_modules": SUFFIXES, "rank_pattern": {r"layers\.\d+\.mlp\.(up|down)_proj": 6}, "use_rslora": True},
    {"target_modules": SUFFIXES, "rank_pattern": {"^model.layers.0.self_attn.k_proj": 7, "k_proj": 1}},
    {"target_modules": SUFFIXES, "rank_pattern": {".*.layers.0.*q_proj": 2, r"model\.layers\.(0|1)\.mlp\.gate_proj": 9}},
    {"target_modules": SUFFIXES, "exclude_modules": ["mlp.up_proj", "layers.1.self_attn.q_proj"]},
    {"target_modules": "all-linear", "exclude_modules": r".*layers\.0\..*"},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 1},
    {"target_modules": ["q_proj", "model.layers.0.mlp.up_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": ["h", "layers"],
     "exclude_modules": ["k_proj"]},
    {"target_modules": SUFFIXES, "rank_pattern": {"self_attn": 2, "proj": 3, "layers.1.self_attn.(q|k)_proj": 11}},
]


def made(case):
    config = transformers.AutoConfig.from_pretrained(HERE / "model/gqa")
    with torch.device("meta"):
        base = transformers.AutoModelForCausalLM.from_config(config)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **case))
        except ValueError as error:
            return {"refused": str(error).split(".")[0]}
    # PEFT passes over an entry that matches nothing, with a warning.
    unmatched = [key for warning in said for key in re.findall(r"'([^']+)'", str(warning.message).partition("ignored:")[2])]
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            layers[name.removeprefix("base_model.model.")] = [module.r["default"], module.scaling["default"]]
    return {"layers": layers, "unmatched": unmatched}


if __name__ == "__main__":
    versions = {module.__name__: module.__version__.split("+")[0] for module in (torch, transformers, peft)}
    found = {"versions": versions, "cases": [{"config": case, **made(case)} for case in CASES]}
    (HERE / "lora_patterns.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(CASES)} cases with {versions}", file=sys.stderr)
