"""Writes tokenizer_settings.json: the settings of published tokenizers and the ids that they give, by `tokenizers` 0.23.3.

The normalizers, pre-tokenizers, post-processors and decoders are those of the models that each is named after, as their
tokenizer.json files have them. The vocabularies are those of `tokenizers/smollm2` and `tokenizers/mini-first`, so that the
file stays small.

    pip install tokenizers==0.23.3
    python tests/golden/tokenizer_settings.py
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
# The start and the end of DeepSeek's list, whose middle is Greek with accents that editors rewrite.
LETTERS = "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]"


def sequence(field, *parts):
    return {"type": "Sequence", field: list(parts)}


def pre(*parts):
    return sequence("pretokenizers", *parts)


def byte_level(prefix, trim, regex=None):
    rule = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim}
    return rule if regex is None else {**rule, "use_regex": regex}


def split(regex, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": False}


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


def template(bos):
    special = {"SpecialToken": {"id": bos, "type_id": 0}}
    piece = lambda name, type_id: {"Sequence": {"id": name, "type_id": type_id}}
    return {
        "type": "TemplateProcessing",
        "single": [special, piece("A", 0)],
        "pair": [special, piece("A", 0), {"SpecialToken": {"id": bos, "type_id": 1}}, piece("B", 1)],
        "special_tokens": {bos: {"id": bos, "ids": [1], "tokens": [bos]}},
    }


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def decoders(strip):
    last = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else []
    return sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, *last)


NFC = {"type": "NFC"}
EMPTY = sequence("normalizers")
LLAMA2 = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
END = byte_level(True, True, True)
BPE = "smollm2"
MINI = "mini-first"


def metaspace(**settings):
    return {"type": "Metaspace", "replacement": "▁", **settings}


def setting(base, normalizer, pre_tokenizer, post_processor=None, decoder=END, **model):
    return {
        "base": base, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
        "decoder": decoder, "model": model,
    }


BOS = "<|endoftext|>"
SETTINGS = {
    "gpt-2": setting(BPE, None, byte_level(False, True), byte_level(True, False)),
    "gpt-2 with add_prefix_space": setting(BPE, None, byte_level(True, True), byte_level(True, False)),
    "gpt-neox, olmo 1": setting(BPE, NFC, byte_level(False, True, True), template(BOS)),
    "llama 3, olmo 2, smollm3": setting(
        BPE, None, pre(split(LLAMA3), byte_level(False, True, False)),
        sequence("processors", byte_level(True, False, True), template(BOS)), ignore_merges=True,
    ),
    "qwen 2, 2.5 and 3": setting(
        BPE, NFC, pre(split(QWEN2), byte_level(False, False, False)), byte_level(False, False, False),
    ),
    "mistral nemo (tekken)": setting(
        BPE, None, pre(split(TEKKEN), byte_level(False, True, False)), template(BOS), ignore_merges=True,
    ),
    "gpt-oss, llama 4": setting(BPE, None, pre(split(O200K), byte_level(False, True, False)), byte_level(True, False, True)),
    "falcon": setting(
        BPE, None,
        pre({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(False, True, True), digits(False), split("[0-9][0-9][0-9]")),
    ),
    "starcoder, smollm2, command-r": setting(BPE, None, pre(digits(True), byte_level(False, True, True)), byte_level(True, True, True)),
    "deepseek llm and coder": setting(
        BPE, EMPTY,
        pre(split("[\r\n]"), split(rf"\s?{LETTERS}+"), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"),
            split("[一-龥ࠀ-一가-퟿]+"), digits(True), byte_level(False, True, False)),
        template(BOS),
    ),
    "deepseek v3 and r1": setting(
        BPE, EMPTY,
        pre(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level(False, True, False)), template(BOS),
    ),
    "bloom": setting(BPE, None, pre(split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), byte_level(False, True, False))),
    "thousands from the right": setting(
        BPE, None, pre(split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"), split(LLAMA3), byte_level(False, True, False)),
    ),
    "llama 2, tinyllama, phi 3, mistral v1": setting(MINI, LLAMA2, None, template("<s>"), decoders(True)),
    "mistral v3": setting(MINI, None, metaspace(prepend_scheme="first", split=False), template("<s>"), decoders(True)),
    "always": setting(MINI, None, metaspace(prepend_scheme="always"), template("<s>"), decoders(True)),
    "metaspace of old files": setting(
        MINI, None, metaspace(str_rep="▁", add_prefix_space=True), None, metaspace(add_prefix_space=True, prepend_scheme="always"),
    ),
    "gemma 1, 2 and 3": setting(
        MINI, replace(" ", "▁"),
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        template("<s>"), decoders(False),
    ),
}

TEXTS = [
    "Hello, world! It's 1234567 o'clock, isn't it?", "  two  spaces,\ttabs\r\n\r\n  and lines \n", "   ", "\n\n\n   x",
    "Ünïcödé café ﬁne ½ ²³ Ǆ ǲ", "日本語のテキスト、中文混合 한국어", "e\u0301 vs é, A\u030a", "def f(x):\n    return x**2  # ok\n",
    "😀👩‍👩‍👧 flags 🇩🇪!!", "3.14159, 1,000,000 and 0xFF", "https://example.org/a?b=c&d=%20", "CamelCaseWORDS snake_case's",
]


def random_texts():
    letters = random.Random(13)
    alphabet = "abcXYZ  \n\t\r'.,!?-_0123456789éßǅÅ\u0301\u200d日本ก한😀 　" + "▁"
    return ["".join(letters.choice(alphabet) for _ in range(letters.randrange(1, 60))) for _ in range(12)]


def ids(name, texts):
    settings = SETTINGS[name]
    file = json.loads((HERE / "tokenizers" / settings["base"] / "tokenizer.json").read_text())
    file.update({key: settings[key] for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")})
    file["model"].update(settings["model"])
    tokenizer = Tokenizer.from_str(json.dumps(file))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def main():
    texts = TEXTS + random_texts()
    cases = {name: {**SETTINGS[name], "ids": ids(name, texts)} for name in SETTINGS}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items())
    path = HERE / "tokenizer_settings.json"
    path.write_text(f'{{"texts": {json.dumps(texts)},\n"settings": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
