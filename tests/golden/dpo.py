#!/usr/bin/env python3
"""What TRL's DPOTrainer makes of ten steps on the tiny model `gqa`: losses, rewards and gradient norms, in `dpo.json`.

    pip install trl==1.16.0 peft==0.21.2 torch==2.15.0
    python dpo.py           # rewrite dpo.json beside this file
    python dpo.py --check   # exit 1 when a number of it would change

The adapter is `model/gqa/adapter_init`. In the runs from a fresh one, its B is zero, so that the reference is the base.
TRL has no loss with smoothed labels any more, but can sum losses: (1-e)s(z) + e s(-z) = 2(1-e) sigmoid - (1-2e) robust.
"""
import json
import os
import pathlib
import re
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRL_EXPERIMENTAL_SILENCE="1")
import peft
import torch
import transformers
import trl
from datasets import Dataset

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model" / "gqa"
EOS, STEPS, LR, SMOOTHING = 2, 10, 1e-3, 0.2
RUNS = {
    "fresh": dict(beta=0.1, init=False),
    "continued": dict(beta=0.1, init=True),
    "with_sft": dict(beta=0.1, init=False, sft_weight=0.5, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5]),
    "smoothed": dict(beta=0.2, init=True, label_smoothing=SMOOTHING, loss_type=["sigmoid", "robust"],
                     loss_weights=[2 * (1 - SMOOTHING), -(1 - 2 * SMOOTHING)]),
}
# prompt, chosen, rejected: answers that begin alike, of different lengths, and prompts that begin alike.
LENGTHS = [(5, 4, 4), (5, 7, 3), (9, 2, 6), (3, 1, 5), (12, 3, 3), (6, 5, 2)]


def pairs():
    generator = torch.Generator().manual_seed(20261129)
    draw = lambda n: torch.randint(3, 97, (n,), generator=generator).tolist()
    out, shared = [], draw(4)
    for at, (prompt, chosen, rejected) in enumerate(LENGTHS):
        begin = draw(1) if at % 2 and min(chosen, rejected) > 1 else []
        answer = lambda n: begin + draw(n - len(begin)) + [EOS]
        start = [1] + (shared if at < 2 else [])
        out.append({"prompt_ids": start + draw(prompt - len(start)), "chosen_ids": answer(chosen), "rejected_ids": answer(rejected)})
    return out


class Given(trl.DPOTrainer):
    """Takes token ids as they are, and keeps the numbers before they are rounded."""

    def __init__(self, *arguments, **more):
        self.found = []
        super().__init__(*arguments, **more)

    def _prepare_dataset(self, dataset, *_):
        return dataset

    def _compute_loss(self, model, inputs, return_outputs):
        answer = super()._compute_loss(model, inputs, return_outputs)
        loss = answer[0] if isinstance(answer, tuple) else answer
        last = {key: values[-1] for key, values in self._metrics["train"].items() if key.startswith("rewards/")}
        self.found.append({"loss": loss.item(), **last})
        return answer


class Norms(transformers.TrainerCallback):
    def __init__(self):
        self.found = []

    def on_pre_optimizer_step(self, arguments, state, control, model=None, **more):
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        self.found.append(torch.nn.utils.get_total_norm(gradients).item())


def run(settings, scratch):
    settings = dict(settings)
    init, sft, smoothing = settings.pop("init"), settings.pop("sft_weight", 0.0), settings.pop("label_smoothing", 0.0)
    base = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, MODEL / "adapter_init", is_trainable=True)
    if not init:
        with torch.no_grad():
            [p.zero_() for name, p in model.named_parameters() if "lora_B" in name]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(HERE / "tokenizers/mini-first/tokenizer.json"), eos_token="</s>", pad_token="</s>")
    arguments = trl.DPOConfig(
        output_dir=scratch, max_steps=STEPS, per_device_train_batch_size=len(LENGTHS), learning_rate=LR, weight_decay=0.0,
        lr_scheduler_type="constant", max_grad_norm=1e9, logging_steps=1, report_to=[], use_cpu=True, bf16=False,
        gradient_checkpointing=False, save_strategy="no", max_length=None, disable_tqdm=True, seed=1,
        label_smoothing=smoothing, **settings)
    norms = Norms()
    trainer = Given(model=model, args=arguments, train_dataset=Dataset.from_list(pairs()), processing_class=tokenizer,
                    callbacks=[norms])
    trainer.train()
    numbers = {key: [step[key] for step in trainer.found] for key in trainer.found[0]}
    return {"beta": settings["beta"], "init": init, "sft_weight": sft, "label_smoothing": smoothing,
            "losses": numbers["loss"], "grad_norms": norms.found,
            "chosen_rewards": numbers["rewards/chosen"], "rejected_rewards": numbers["rewards/rejected"],
            "margins": numbers["rewards/margins"], "accuracies": numbers["rewards/accuracies"]}


def main():
    with tempfile.TemporaryDirectory() as scratch:
        runs = {name: run(settings, scratch) for name, settings in RUNS.items()}
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft, trl)}
    found = {"versions": versions, "learning_rate": LR, "pairs": pairs(), "runs": runs}
    path = HERE / "dpo.json"
    if "--check" in sys.argv:
        known = json.loads(path.read_text())
        same = known["pairs"] == found["pairs"] and all(
            abs(a - b) <= 1e-5 + 1e-5 * abs(b)
            for name, numbers in found["runs"].items()
            for key, values in numbers.items() if isinstance(values, list)
            for a, b in zip(values, known["runs"][name][key], strict=True))
        sys.exit(0 if same else "dpo.json is not what TRL says")
    text = json.dumps(found, indent=1)
    one_line = lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
    path.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", one_line, text) + "\n")


main()
