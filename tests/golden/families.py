#!/usr/bin/env python3
"""What transformers and PEFT make of a tiny random model of each family, in `families/`.

    pip install peft==0.21.2 torch==2.15.0 transformers==5.24.0
    python families.py           # rewrite families/ beside this file
    python families.py --check   # exit 1 when a number of it would change

For each family: a checkpoint, an adapter on every projection, and in `families.json` the log-probabilities of a text of 60
tokens with the adapter, and the norm of the gradient of its mean with respect to the adapter.
"""
import json
import os
import pathlib
import re
import shutil
import sys

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
import peft
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent / "families"
LENGTH = 60
SHAPE = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, vocab_size=48, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
             pad_token_id=0, tie_word_embeddings=False, attn_implementation="eager")
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=16.0, original_max_position_embeddings=16, beta_fast=4.0,
            beta_slow=0.5, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1)
VISION = dict(model_type="pixtral", hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
              head_dim=8, image_size=28, patch_size=14)
FAMILIES = {
    "llama_biased": ("llama", dict(attention_bias=True, mlp_bias=True, head_dim=4)),
    "ministral": ("ministral", dict(sliding_window=7, layer_types=["full_attention"] + 3 * ["sliding_attention"])),
    "ministral3": ("ministral3", dict(rope_parameters=YARN)),
    "qwen2": ("qwen2", dict(head_dim=4, tie_word_embeddings=True, use_sliding_window=False)),
    "qwen2_windowed": ("qwen2", dict(head_dim=4, use_sliding_window=True, sliding_window=9, max_window_layers=2)),
    "qwen3": ("qwen3", dict(tie_word_embeddings=True)),
    "qwen3_biased": ("qwen3", dict(attention_bias=True)),
    "smollm3": ("smollm3", dict(head_dim=4, tie_word_embeddings=True)),
    "smollm3_windowed": ("smollm3", dict(head_dim=4, use_sliding_window=True, sliding_window=9,
                                         no_rope_layers=[0, 1, 1, 0])),
    "mistral3": ("mistral3", dict(rope_parameters=YARN)),
}
PROJECTIONS = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"


def seed(model, number):
    """Every parameter is random, the norms and biases too."""
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_norm else 0.25 * noise)


def model_of(kind, more):
    shape = {**SHAPE, **more}
    if kind == "mistral3":
        attention = shape.pop("attn_implementation")
        text = transformers.AutoConfig.for_model("ministral3", **shape)
        config = transformers.Mistral3Config(text_config=text, vision_config=VISION, tie_word_embeddings=False)
        return transformers.Mistral3ForConditionalGeneration._from_config(config, attn_implementation=attention)
    if kind in ("qwen2", "smollm3"):
        shape.pop("head_dim")
    config = transformers.AutoConfig.for_model(kind, **shape)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def run(number, name, kind, more, folder):
    base = model_of(kind, more).to(torch.float32).eval()
    seed(base, number)
    if folder:
        base.save_pretrained(folder)
        for file in ("generation_config.json",):
            (folder / file).unlink(missing_ok=True)
    # Of the wrapper, the layers of the language model alone.
    layers = r".*language_model.*\." if kind == "mistral3" else r".*\.layers\..*\."
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=rf"{layers}({PROJECTIONS})", task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config).eval()
    generator = torch.Generator().manual_seed(number + 100)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    if folder:
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
    ids = torch.randint(3, SHAPE["vocab_size"], (1, LENGTH), generator=torch.Generator().manual_seed(7))
    logits = model(input_ids=ids).logits[0, :-1]
    log_probs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    (-log_probs.mean()).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    return {"input_ids": ids[0].tolist(), "log_probs": log_probs.tolist(),
            "grad_norm": torch.nn.utils.get_total_norm(gradients).item()}


def main():
    check = "--check" in sys.argv
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    runs = {}
    for number, (name, (kind, more)) in enumerate(FAMILIES.items()):
        folder = None if check else HERE / name
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        runs[name] = run(number, name, kind, more, folder)
    path = HERE / "families.json"
    if check:
        known = json.loads(path.read_text())["runs"]
        same = all(abs(a - b) <= 1e-5 + 1e-5 * abs(b) for name, found in runs.items()
                   for a, b in zip(found["log_probs"], known[name]["log_probs"], strict=True))
        sys.exit(0 if same else "families.json is not what transformers says")
    text = json.dumps({"versions": versions, "runs": runs}, indent=1)
    one_line = lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", one_line, text) + "\n")


main()
