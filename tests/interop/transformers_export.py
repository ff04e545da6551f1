"""Compares what transformers and PEFT compute from exported folders with what Foehn computes.

    cargo build --release --example export --example finetune --example score --example tokenize
    python tests/interop/transformers_export.py --examples target/release/examples --adapter runs/vakog/adapter

Needs torch, transformers and peft in this Python; CI does not run it, since torch alone is more than two gigabytes there. The committed
checkpoints of tests/golden/families stand in: `cargo test --test export` compares exported folders of ten of them with transformers'
log-probabilities.

The base is SmolLM2, first written in f32 by itself. Compared over twenty VAKOG answers, token by token:

- merged in f32, in shards, and merged in bf16, each with Foehn's reading of the same folder (a bf16 folder is computed in f32);
- the PEFT folder on the base's folder, with Foehn's attached adapter;
- two adapters added up, with PEFT's `add_weighted_adapter` of `combination_type="cat"`.

And the ids, the text of the chat template, the padding token and the stop token of the folder's tokenizer.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

# This folder has a script called tokenizers.
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).resolve().parent]

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

WITHIN = 2e-3
spec = importlib.util.spec_from_file_location("llama_cpp", Path(__file__).with_name("llama_cpp.py"))
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)


def log_probs(model, rows):
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row])
            logits = model(ids).logits[0, :-1].double().log_softmax(-1)
            yield logits.gather(-1, ids[0, 1:, None])[:, 0].tolist()


def difference(found, expected):
    return max(abs(a - b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, default=shared.ROOT / "target/release/examples")
    parser.add_argument("--adapter", type=Path)
    arguments = parser.parse_args()
    good = True

    def report(what, found, limit=WITHIN):
        nonlocal good
        good &= found <= limit
        print(f"{what:42} largest difference {found:.1e}")

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        foehn = shared.Foehn(arguments.examples.resolve(), scratch)
        adapter = arguments.adapter
        if adapter is None:
            foehn.run("finetune", "--max-steps", 30, "--no-evaluation", "--out", scratch / "run")
            adapter = scratch / "run/adapter"
        adapter = adapter.resolve()
        asked = shared.questions()[:20]
        prompts = foehn.prompts(asked)
        rows = [prompt + answer for prompt, answer in zip(prompts, foehn.greedy(prompts, adapter))]
        load = lambda place: AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()

        base = scratch / "base"
        foehn.run("export", "--out", base)
        for dtype, size in [("f32", "200MB"), ("bf16", "5GB")]:
            merged = scratch / dtype
            foehn.run("export", "--adapter", adapter, "--out", merged, "--dtype", dtype, "--shard-size", size)
            ours = shared.json.loads("[" + foehn.run("score", "--model", merged, text=foehn.rows(rows)).replace("]\n[", "],[") + "]")
            report(f"merged, {dtype}, {len(list(merged.glob('*.safetensors')))} files", difference(log_probs(load(merged), rows), ours))
            if dtype == "f32":
                attached = foehn.log_probs(rows, adapter)
                report("merged, f32, beside the attached adapter", difference(ours, attached))

        foehn.run("export", "--adapter", adapter, "--peft", scratch / "peft", "--base-name", base)
        with_peft = PeftModel.from_pretrained(load(base), scratch / "peft").eval()
        report("adapter in PEFT", difference(log_probs(with_peft, rows), attached))

        variants = dict(shared.variants(adapter, scratch))
        other = variants["rsLoRA"]
        foehn.run("export", "--adapter", f"{adapter}=0.5", "--adapter", f"{other}=0.25", "--peft", scratch / "sum", "--base-name", base)
        summed = PeftModel.from_pretrained(load(base), scratch / "sum").eval()
        theirs = PeftModel.from_pretrained(load(base), adapter, adapter_name="one").eval()
        theirs.load_adapter(other, adapter_name="two")
        theirs.add_weighted_adapter(["one", "two"], [0.5, 0.25], "sum", combination_type="cat")
        theirs.set_adapter("sum")
        report("two adapters added up, beside PEFT's", difference(log_probs(summed, rows), log_probs(theirs, rows)))

        tokenizer = AutoTokenizer.from_pretrained(scratch / "bf16")
        for question, prompt in zip(asked, prompts):
            text = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
            good &= tokenizer(text, add_special_tokens=False).input_ids == prompt
        print(f"chat template and ids equal: {good}; stop token {tokenizer.eos_token!r}, padding {tokenizer.pad_token!r}")
    sys.exit(0 if good else "transformers and Foehn differ")


if __name__ == "__main__":
    main()
