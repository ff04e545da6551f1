#!/usr/bin/env python3
"""What transformers and PyTorch make of weights in eight-bit floats: the folder `fp8` and `fp8.json`.

    pip install torch==2.15.0 transformers==5.24.0 safetensors
    python fp8.py           # rewrite fp8/ and fp8.json beside this file
    python fp8.py --check   # exit 1 when a number of them would change

`fp8/`: the tiny model `gqa` in the form of Ministral 3's instruct weights (`scalar`: one scale per matrix in bfloat16, and scales
of the activations), and with a scale for each block of 16 by 16 (`blocks`). `log_probs`: what transformers gives for a text
with each, dequantised to float32; `rounded`: dequantised to bfloat16, its default, and computed in float32. `file`: a file of matrices with every finite byte, in hex, and their dequantised values.
"""
import json
import os
import pathlib
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model" / "gqa"
FORMS = {
    "scalar": {"quant_method": "fp8", "activation_scheme": "static", "dequantize": False, "weight_block_size": None,
               "modules_to_not_convert": ["lm_head"]},
    "blocks": {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [16, 16],
               "modules_to_not_convert": ["lm_head"]},
}


def spread(scale, block, shape):
    """A scale for each element."""
    if scale.ndim == 0:
        return scale.float()
    rows = scale.float().repeat_interleave(block[0], 0)[: shape[0]]
    return rows.repeat_interleave(block[1], 1)[:, : shape[1]]


def quantize(weight, block):
    """The matrix in eight-bit floats and its scale, so that the largest magnitude under each scale becomes 448."""
    if block is None:
        scale = (weight.abs().max() / 448).to(torch.bfloat16)
    else:
        tiles = weight.unfold(0, block[0], block[0]).unfold(1, block[1], block[1])
        scale = tiles.abs().amax((-1, -2)) / 448
    numbers = (weight / spread(scale, block, weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return numbers, scale


def checkpoint(folder, form):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, weight in safetensors.torch.load_file(MODEL / "model.safetensors").items():
        if "_proj" not in name:
            tensors[name] = weight.to(torch.bfloat16)
            continue
        numbers, scale = quantize(weight, form["weight_block_size"])
        tensors |= {name: numbers, name + "_scale_inv": scale}
        if form["activation_scheme"] == "static":
            tensors[name.removesuffix("weight") + "activation_scale"] = torch.tensor(0.0123, dtype=torch.bfloat16)
    config = json.loads((MODEL / "config.json").read_text()) | {"dtype": "bfloat16", "quantization_config": form}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def log_probs(model, ids):
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def run(folder, ids):
    """By transformers' own reading; compared with the products of PyTorch."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    assert all(p.dtype == torch.float32 for p in model.parameters())
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    block = config["quantization_config"]["weight_block_size"]
    state = model.state_dict()
    for name, tensor in tensors.items():
        if tensor.dtype == torch.float8_e4m3fn:
            expected = tensor.float() * spread(tensors[name + "_scale_inv"], block, tensor.shape)
            assert torch.equal(state[name], expected), name
    exact = log_probs(model, ids).tolist()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    model.float().model.rotary_emb = type(model.model.rotary_emb)(model.config)
    return exact, log_probs(model, ids).tolist()


def file_case():
    generator = torch.Generator().manual_seed(5)
    finite = torch.tensor([byte for byte in range(256) if byte & 0x7F != 0x7F], dtype=torch.uint8)
    more = finite[torch.randint(0, len(finite), (12 * 40 - len(finite),), generator=generator)]
    numbers = torch.cat([finite, more]).reshape(12, 40).view(torch.float8_e4m3fn)
    scales = {
        "scalar": (torch.tensor(0.0173, dtype=torch.bfloat16), None),
        "one": (torch.tensor([3.7e-4]), None),
        "blocks": (torch.rand((2, 3), generator=generator) * 0.01, (8, 16)),
        "rows": (torch.rand((12, 1), generator=generator) * 0.01, (1, 64)),
    }
    tensors, values = {}, {}
    for name, (scale, block) in scales.items():
        tensors |= {f"{name}.weight": numbers.clone(), f"{name}.weight_scale_inv": scale}
        one = scale.float().reshape(()) if block is None else spread(scale, block, (12, 40))
        values[f"{name}.weight"] = (numbers.float() * one).numpy().tobytes().hex()
    return {"bytes": safetensors.torch.save(tensors).hex(), "values": values}


def make(folder):
    ids = torch.randint(3, 97, (1, 40), generator=torch.Generator().manual_seed(8))
    found = {"versions": {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers)},
             "input_ids": ids[0].tolist(), "log_probs": {}, "rounded": {}}
    for name, form in FORMS.items():
        checkpoint(folder / name, form)
        found["log_probs"][name], found["rounded"][name] = run(folder / name, ids)
    return found | {"file": file_case()}


def main():
    path = HERE / "fp8.json"
    if "--check" not in sys.argv:
        path.write_text(json.dumps(make(HERE / "fp8")) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        found, known = make(pathlib.Path(folder)), json.loads(path.read_text())
        same = found["file"] == known["file"] and all(
            (pathlib.Path(folder) / name / part).read_bytes() == (HERE / "fp8" / name / part).read_bytes()
            for name in FORMS
            for part in ("config.json", "model.safetensors")
        )
        near = all(
            abs(a - b) <= 1e-5
            for key in ("log_probs", "rounded")
            for name in FORMS
            for a, b in zip(found[key][name], known[key][name], strict=True)
        )
    sys.exit(0 if same and near else "fp8.json or fp8/ is not what transformers says")


main()
