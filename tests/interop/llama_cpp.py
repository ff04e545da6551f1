"""Compares what llama.cpp says of exported files with what Foehn says of the base and the attached adapter.

    cargo build --release --example export --example finetune --example score --example tokenize
    python tests/interop/llama_cpp.py --examples target/release/examples
    python tests/interop/llama_cpp.py --examples target/release/examples --adapter runs/vakog/adapter

Without --adapter, one is trained for thirty steps. From it come an adapter with rsLoRA and one with alphas by pattern, whose settings
are changed and whose matrices are not, so that a scale that is not read shows. Each is exported as GGUF beside the base, for
llama.cpp to load with the base as it is (Q4_1) and with the base in single precision; and merged, in F16. llama.cpp, from the
package xllamacpp, answers the 100 VAKOG questions, greedily, from Foehn's ids. Compared are:

- the greedy text: where it differs, the two tokens' log-probabilities in Foehn have to be a near tie, whose margin is shown;
- the log-probabilities of the tokens that llama.cpp chose;
- for the plain adapter, the answer by the chat template and the tokenizer inside the file: it has to be the same text.

With --quick, there are eight steps and 10 questions, and the base as it is stands for the plain adapter alone.

If this Python lacks the packages, they are installed into a fresh environment, for at most ten minutes. Where that can't be done,
the script says so and passes.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["xllamacpp==2026.10.11549"]
TOKENS = 24
# llama.cpp rounds the inputs of a product to eight bits where the weights are quantised, and to half precision where they are F16.
# Foehn's log-probabilities are exact. Such a rounding can turn a margin as large as itself.
WITHIN = {"beside Q4_1": 0.25, "beside F32": 0.02, "merged F16": 0.02}


def in_own_environment():
    """Runs this script again in an environment with the packages; returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin/python"
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"skipped, the packages can't be installed: {error}")
            return 0
        return subprocess.run([python, __file__, *sys.argv[1:]], env=dict(os.environ, FOEHN_INTEROP="1")).returncode


class LlamaCpp:
    """llama.cpp's server in this process, with one model and perhaps an adapter."""

    def __init__(self, model, adapter=None):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx, params.n_parallel, params.warmup = 1024, 1, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.use_jinja, params.verbosity = True, 0
        if adapter:
            info = xllamacpp.CommonAdapterLoraInfo()
            info.path, info.scale = str(adapter), 1.0
            params.lora_adapters = [info]
        self.server = xllamacpp.Server(params)

    def continued(self, prompt):
        """The greedy continuation of ids, with its log-probabilities, and its text."""
        found = self.server.handle_completions(
            {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0.0, "top_k": 1, "logprobs": 1, "n_probs": 1,
             "cache_prompt": True, "repeat_penalty": 1.0})["choices"][0]
        tokens = found["logprobs"]["content"]
        return [token["id"] for token in tokens], [token["logprob"] for token in tokens], found["text"]

    def answer(self, question):
        """The greedy answer to a question, with the chat template and the tokenizer of the file."""
        found = self.server.handle_chat_completions(
            {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS, "temperature": 0.0, "top_k": 1,
             "cache_prompt": True})
        return found["choices"][0]["message"]["content"]


def questions():
    lines = (ROOT / "datasets/vakog/probes/recognition.jsonl").read_text().splitlines()
    return [f"What modality is: '{json.loads(line)['sentence']}'?" for line in lines][:100]


class Foehn:
    def __init__(self, examples, scratch):
        self.examples, self.scratch = Path(examples), scratch

    def run(self, name, *arguments, text=None):
        command = [self.examples / name, *map(str, arguments)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}:\n{done.stderr}")
        return done.stdout

    def prompts(self, asked):
        """The ids of each question, up to where the answer begins."""
        data = self.scratch / "questions.jsonl"
        record = lambda text: {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]}
        data.write_text("".join(json.dumps(record(text)) + "\n" for text in asked))
        rows = map(json.loads, self.run("tokenize", "--data", data, "--limit", 0, "--json").splitlines())
        return [row["input_ids"][: row["loss_mask"].index(True)] for row in rows]

    def rows(self, ids):
        return "".join(json.dumps({"input_ids": row}) + "\n" for row in ids)

    def greedy(self, prompts, adapter):
        found = self.run("score", "--adapter", adapter, "--greedy", TOKENS, text=self.rows(prompts))
        return [json.loads(line) for line in found.splitlines()]

    def log_probs(self, rows, adapter):
        found = self.run("score", "--adapter", adapter, text=self.rows(rows))
        return [json.loads(line) for line in found.splitlines()]


def variants(adapter, scratch):
    """The adapter, and the same matrices with rsLoRA and with other ranks and alphas by pattern."""
    yield "plain LoRA", adapter
    config = json.loads((adapter / "adapter_config.json").read_text())
    changes = {
        # The scale of rsLoRA is larger, by the root of the rank: a smaller alpha makes it similar to the trained one.
        "rsLoRA": {"use_rslora": True, "lora_alpha": config["lora_alpha"] * 0.7 / math.sqrt(config["r"])},
        "patterns": {"alpha_pattern": {r"layers\.1\d\.self_attn\.(q|v)_proj": config["lora_alpha"] * 1.5,
                                       "down_proj": config["lora_alpha"] * 0.25}},
    }
    for name, change in changes.items():
        folder = scratch / name
        folder.mkdir()
        for file in ["adapter_model.safetensors", "foehn.json"]:
            (folder / file).write_bytes((adapter / file).read_bytes())
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        yield name, folder


def compare(name, kind, llama, foehn, adapter, prompts, ours, asked=None):
    """Prints a line and returns whether all is well."""
    same, ties, rows = 0, [], []
    worst, texts = 0.0, {}
    for at, prompt in enumerate(prompts):
        chosen, log_probs, texts[at] = llama.continued(prompt)
        rows.append((chosen, log_probs))
    template = sum(llama.answer(question).strip() == texts[at].strip() for at, question in enumerate(asked or []))
    exact = foehn.log_probs([prompt + chosen for prompt, (chosen, _) in zip(prompts, rows)], adapter)
    others, places = [], []
    for at, (prompt, (chosen, log_probs)) in enumerate(zip(prompts, rows)):
        reference = exact[at][len(prompt) - 1:]
        worst = max([worst, *(abs(a - b) for a, b in zip(log_probs, reference))])
        expected = ours[at][: len(chosen)]
        if chosen == expected or chosen == ours[at][:-1]:
            same += 1
            continue
        step = next(i for i, (a, b) in enumerate(zip(chosen, expected)) if a != b)
        others.append(prompt + expected[: step + 1])
        places.append((at, step, reference[step]))
    if others:
        for (at, step, theirs), row in zip(places, foehn.log_probs(others, adapter)):
            ties.append((row[-1] - theirs, at, step))
    by_template = f"   by its own template {template} of {len(asked)}" if asked else ""
    print(f"{name:10}  {kind:11}  same text {same} of {len(prompts)}   log-probabilities within {worst:.4f}{by_template}")
    for margin, at, step in ties:
        print(f"    question {at + 1}, token {step + 1}: another token, {margin:.4f} less probable in exact arithmetic")
    good = worst <= WITHIN[kind] and all(margin <= WITHIN[kind] for margin, *_ in ties)
    return good and template == len(asked or [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, default=ROOT / "target/release/examples")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        foehn = Foehn(arguments.examples.resolve(), scratch)
        adapter = arguments.adapter
        if adapter is None:
            foehn.run("finetune", "--max-steps", 8 if arguments.quick else 30, "--no-evaluation", "--out", scratch / "run")
            adapter = scratch / "run/adapter"
        asked = questions()[: 10 if arguments.quick else 100]
        prompts = foehn.prompts(asked)
        single = scratch / "single.gguf"
        foehn.run("export", "--merged-gguf", single, "--type", "f32")
        good = True
        for name, changed in variants(adapter.resolve(), scratch):
            ours = foehn.greedy(prompts, changed)
            ollama, merged = scratch / "ollama", scratch / "merged.gguf"
            foehn.run("export", "--adapter", changed, "--overwrite", "--ollama", ollama, "--from-base", "--merged-gguf", merged,
                      "--type", "f16")
            base = (ollama / "Modelfile").read_text().split("\n")[0].removeprefix("FROM ")
            small, is_plain = ollama / "adapter.gguf", name == "plain LoRA"
            files = {"beside Q4_1": (base, small), "beside F32": (single, small), "merged F16": (merged,)}
            if arguments.quick and not is_plain:
                del files["beside Q4_1"]
            for kind, paths in files.items():
                own = asked if is_plain and kind != "beside F32" else None
                good &= compare(name, kind, LlamaCpp(*paths), foehn, changed, prompts, ours, own)
        sys.exit(0 if good else "llama.cpp and Foehn differ by more than rounding")


if __name__ == "__main__":
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        sys.exit("the packages are missing" if os.environ.get("FOEHN_INTEROP") else in_own_environment())
    main()
