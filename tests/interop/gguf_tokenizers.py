"""Compares what Foehn writes of a tokenizer with what other programs read: llama.cpp, sentencepiece and transformers.

    python tests/interop/gguf_tokenizers.py

For each tokenizer, `crates/tokens/examples/tokenizer_files.rs` writes a GGUF file with the vocabulary alone and a Hugging Face folder. Then

- llama.cpp's own tokenizer (`llama_tokenize` of the package xllamacpp) gives Foehn's ids for the 2,000 lines of
  tests/golden/lines.json.gz, and for the prompts that its chat template renders (by jinja2, which transformers and vLLM use);
- transformers gives Foehn's ids for the lines and the prompts, the same padding token and the same length, from the folder;
- sentencepiece gives Foehn's ids, from the `tokenizer.model` made of a GGUF file.

Programs differ in cases that are named here, each with a rule that says where. A text outside of the rules fails, and so does a
rule without a case:

- Texts that spell a control token: to Foehn they are text; transformers makes control tokens of them, and so does any program
  that reads a rendered prompt. These are left out.
- llama.cpp's pattern for tekken takes no combining marks into words, and finds no borders between other letters than ASCII ones.
- llama.cpp takes SentencePiece's user-defined pieces ([REF]) out of a text first, and adds a space behind each.
- transformers converts a `tokenizer.model` so that runs of spaces are other tokens, and adds no space before a first space.
- A `tokenizer.json` with a `Metaspace` adds no space before a first space. llama.cpp does, and so does the Jinja source of one
  of Mistral's templates.

If this Python lacks the packages, they are installed into a fresh environment, for at most ten minutes. Where that can't be
done, the script says so and passes.
"""

import copy
import ctypes
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/golden/tokenizers"
PACKAGES = ["xllamacpp==2026.10.11549", "mistral-common==1.13.1", "transformers==5.24.0", "tokenizers==0.23.3", "sentencepiece", "protobuf"]
# The folder of this script would hide the package `tokenizers`.
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT / "tests/interop"]


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


class Params(ctypes.Structure):
    """`llama_model_params`, longer than any version of it. `vocab_only` is the first of its truth values."""

    _fields_ = [("bytes", ctypes.c_ubyte * 512)]
    VOCAB_ONLY = 72


class Llama:
    """llama.cpp's tokenizer of a GGUF file."""

    library = None

    def __init__(self, path):
        if Llama.library is None:
            Llama.library = Llama.opened()
        library = Llama.library
        params = library.llama_model_default_params()
        params.bytes[Params.VOCAB_ONLY] = 1
        self.model = library.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, f"llama.cpp refuses {path}"
        self.vocab = library.llama_model_get_vocab(self.model)
        template = library.llama_model_chat_template(self.model, None)
        self.template = template.decode() if template else None

    @staticmethod
    def opened():
        import xllamacpp

        library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
        pointer, text, number, truth = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_bool
        silent = ctypes.CFUNCTYPE(None, ctypes.c_int, text, pointer)
        library.quiet = silent(lambda *_: None)
        signatures = {
            "llama_log_set": (None, [silent, pointer]), "llama_model_default_params": (Params, []),
            "llama_model_load_from_file": (pointer, [text, Params]), "llama_model_get_vocab": (pointer, [pointer]),
            "llama_model_chat_template": (text, [pointer, text]), "llama_vocab_get_add_bos": (truth, [pointer]),
            "llama_vocab_is_eog": (truth, [pointer, number]), "llama_vocab_n_tokens": (number, [pointer]),
            "llama_tokenize": (number, [pointer, text, number, ctypes.POINTER(number), number, truth, truth]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        library.llama_log_set(library.quiet, None)
        return library

    def ids(self, text, prompt=False):
        """The ids; of a prompt, with bos and control tokens. As in llama.cpp's server, a bos is not doubled."""
        if prompt and self.library.llama_vocab_get_add_bos(self.vocab):
            text = text.removeprefix("<s>")
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = self.library.llama_tokenize(self.vocab, data, len(data), room, len(room), prompt, prompt)
        assert count >= 0, text
        return list(room[:count])

    def ends(self):
        count = self.library.llama_vocab_n_tokens(self.vocab)
        return [id for id in range(count) if self.library.llama_vocab_is_eog(self.vocab, id)]


def example(name, *arguments, lines):
    """Runs an example of foehn-tokens."""
    target = os.environ.get("CARGO_TARGET_DIR")
    built = Path(target or ROOT / "target") / "release/examples" / name
    command = ["cargo", "run", "--quiet", "--release", "-p", "foehn-tokens", "--example", name, "--"]
    command = [str(built)] if "FOEHN_BUILT" in os.environ else command
    given = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([*command, *map(str, arguments)], cwd=ROOT, input=given, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name} {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def conversations():
    """Records to be answered."""
    golden = json.loads((ROOT / "tests/golden/templates.json").read_text(encoding="utf-8"))
    tools = json.loads((ROOT / "tests/golden/mistral_tools.json").read_text(encoding="utf-8"))
    records = [{"messages": messages[:-1]} for messages in golden["conversations"].values()]
    for record in tools["conversations"]:
        used = [tools["pool"][place] for place in record["tools"]]
        records.append({"messages": record["messages"][:-1], **({"tools": used} if used else {})})
    return records


def prompts(records, source, **tokens):
    """Each record's prompt as transformers renders it; None where the template refuses it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered = []
    for record in records:
        messages = copy.deepcopy(record["messages"])
        for message in messages:
            for call in message.get("tool_calls", []):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
        try:
            made, _ = render_jinja_template([messages], tools=record.get("tools"), chat_template=source, add_generation_prompt=True, **tokens)
            rendered.append(made[0])
        except Exception:
            rendered.append(None)
    return rendered


failed = 0


def compare(name, texts, ours, theirs, rule=None, wanted=True):
    """Counts the texts with other ids. They are those of the rule, or there are none."""
    global failed
    named = wrong = 0
    for text, own, other in zip(texts, ours, theirs, strict=True):
        if own == other:
            continue
        if rule and rule(text):
            named += 1
            continue
        wrong += 1
        if wrong <= 3:
            print(f"    {name}: other ids for {text[:60]!r}: {other[:20]}, Foehn has {own and own[:20]}")
    if rule and wanted and not named:
        print(f"    {name}: no text differs any more: take its rule out")
        wrong += 1
    failed += wrong
    print(f"    {name}: {len(ours)} compared, {named} differ as named, {wrong} differ", flush=True)


def marks_or_letters(text):
    """Whether llama.cpp's pattern for tekken can cut this text at other places."""
    kinds = [unicodedata.category(letter) for letter in text if letter > "\x7f"]
    return any(kind[0] in "ML" for kind in kinds)


def has_user_defined(text):
    return "[REF]" in text or "[/REF]" in text


def has_run(text):
    return "  " in text or "▁" in text or text.startswith(" ")


def check(name, model, folder, records, lines, *template, llama_rule=None, spm_rule=None, prompt_rule=None):
    import transformers

    out = folder / name
    example("tokenizer_files", model, out, *template, lines=records)
    print(f"{name}:", flush=True)
    ids = [json.loads(line) for line in example("ids", model, lines=lines).splitlines()]
    expected = json.loads((out / "prompts.json").read_text())

    llama = Llama(out / "model.gguf")
    compare("llama.cpp, lines", lines, ids, [llama.ids(line) for line in lines], llama_rule)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "hf")
    controls = sorted(tokenizer.all_special_tokens + [str(token) for token in tokenizer.added_tokens_decoder.values()], key=len)
    spells = re.compile("|".join(map(re.escape, controls))).search
    clean = [not any(spells(text) for text in texts_of(record)) for record in records]
    texts = prompts(records, llama.template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
    # A model's own template renders what Foehn refuses because a part would be lost; one of Mistral's renders no such thing.
    strict = llama.template.startswith("{#- mistral-")
    comparable = [clean[at] and (strict or expected[at] is not None) for at in range(len(records))]
    kept = [at for at, text in enumerate(texts) if comparable[at] and text is not None]
    asked = [texts[at] for at in kept]
    compare("llama.cpp, prompts", asked, [expected[at] for at in kept], [llama.ids(text, True) for text in asked], llama_rule, False)
    refused = [at for at in range(len(records)) if clean[at] and texts[at] is None and expected[at] is not None]
    print(f"    {len(refused)} of {sum(clean)} prompts are refused by the Jinja template alone")

    plain = [at for at, line in enumerate(lines) if not spells(line)]
    theirs = [tokenizer.encode(lines[at], add_special_tokens=False) for at in plain]
    compare("transformers, lines", [lines[at] for at in plain], [ids[at] for at in plain], theirs, spm_rule)
    texts = prompts(records, tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
    kept = [at for at, text in enumerate(texts) if comparable[at] and text is not None]
    theirs = [tokenizer.encode(texts[at], add_special_tokens=False) for at in kept]
    compare("transformers, prompts", [texts[at] for at in kept], [expected[at] for at in kept], theirs, spm_rule or prompt_rule, False)
    return tokenizer, llama, ids


def texts_of(record):
    """All texts of a record, in one for its tools."""
    yield json.dumps(record.get("tools", []), ensure_ascii=False)
    for message in record["messages"]:
        yield message["content"]
        yield message.get("reasoning_content") or ""
        yield from (call["function"]["name"] + call["function"]["arguments"] for call in message.get("tool_calls", []))


def main():
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        import google.protobuf, mistral_common, sentencepiece, transformers, xllamacpp  # noqa: F401
    except ImportError as error:
        if "FOEHN_INTEROP" in os.environ:
            sys.exit(f"the packages are installed and can't be loaded: {error}")
        return in_own_environment()
    transformers.logging.set_verbosity_error()
    lines = json.loads(gzip.decompress((ROOT / "tests/golden/lines.json.gz").read_bytes()))["lines"]
    records = conversations()
    data = Path(mistral_common.__file__).parent / "data"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run = lambda name, model, *template, **rules: check(name, model, folder, records, lines, *template, **rules)
        _, llama, _ = run("smollm2", FIXTURES / "smollm2")
        # llama.cpp also stops at <reponame> (4), by its text.
        assert llama.ends() == [0, 2, 4], llama.ends()
        for version in ["v3", "v7", "v11", "v13"]:
            run(f"mini-tekken-{version}", FIXTURES / "mini-tekken", f"mistral-{version}")
        run("tekken-v3", FIXTURES / "tekken-v3")
        run("tekken-v13", FIXTURES / "tekken-v13")
        run("tekken", data / "tekken_240911.json", llama_rule=marks_or_letters)
        for version in ["v1", "v3", "v7"]:
            name, rule = f"tokenizer.model.{version}", has_user_defined if version == "v7" else None
            tokenizer, _, ids = run(version, FIXTURES / name, llama_rule=rule, spm_rule=has_run)
            again, _, _ = run(f"{version} again, from the GGUF", folder / version / "model.gguf", llama_rule=rule, spm_rule=has_run)
            if version != "v1":
                assert again.model_max_length == 64, again.model_max_length
            made = sentencepiece.SentencePieceProcessor(str(folder / f"{version} again, from the GGUF/hf/tokenizer.model"))
            compare("sentencepiece, lines", lines, ids, [made.encode(line) for line in lines])
            tokenizer.save_pretrained(folder / f"{version}.json")
            if version != "v7":
                run(f"{version} as tokenizer.json", folder / f"{version}.json", f"mistral-{version}", llama_rule=has_run, prompt_rule=has_run)
    print("all ids are equal" if failed == 0 else f"{failed} texts have other ids")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
