"""Writes lines.json.gz: 2,000 lines that try tokenizers, and their ids by mistral-common, sentencepiece and tokenizers.

    pip install mistral-common==1.13.1 transformers==5.24.0 tokenizers==0.23.3 sentencepiece
    python tests/golden/lines.py

It makes two tokenizers out of the tekken.json files inside mistral-common, cut down so that they can be committed:

    tokenizers/tekken-v3/     the earlier generation, whose control tokens the program knows; the first RANKS ranks
    tokenizers/tekken-v13/    the later generation, which lists its control tokens; 256 bytes and the next 300 ranks

In lines.json.gz: `lines`; `tekken-v3` (the ids of every line, which are also those of transformers' own conversion of the
file); `digests`, per tokenizer the first eight digits of the SHA-256 of every line's ids, written with spaces between; `decoded`,
per tokenizer the lines that are decoded to another text than the line; `bytes`, ids in random order with the text that
mistral-common decodes them to (their bytes are rarely UTF-8).
"""

import gzip
import hashlib
import json
import random
from pathlib import Path

import mistral_common
from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Tokenizer
from transformers.integrations.mistral.tokenizer import MistralConverter

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "tokenizers"
DATA = Path(mistral_common.__file__).parent / "data"
COUNT = 2000
RANKS = {"tekken-v3": 2000, "tekken-v13": 556}
# Ranks that are in the file and beyond `default_vocab_size`: not tokens.
BEYOND = 8

WORDS = {
    "latin": "the quick brown fox jumps over naïve café Zoë Ångström ﬁn straße İstanbul ĳs cœur Łódź señor fjörður Việt".split(),
    "cyrillic": "мир привет Москва ёлка объявление їжак Ђорђе съёмка".split(),
    "greek": "Ελλάδα λόγος Ὀδυσσεύς ἄνθρωπος ΣΊΣΥΦΟΣ ς".split(),
    "arabic": "العربية مرحبا السَّلَامُ عَلَيْكُم ١٢٣ ﷺ کتاب".split(),
    "hebrew": "עברית שָׁלוֹם ירושלים צה״ל".split(),
    "devanagari": "हिन्दी नमस्ते क्षत्रिय संस्कृतम् ऋषि १२३".split(),
    "thai": "สวัสดี ภาษาไทย น้ำ กรุงเทพฯ ๑๒๓".split(),
    "cjk": "你好 世界 漢字 東京 こんにちは カタカナ ｶﾀｶﾅ 。、 「」 龘 𠮷 々".split(),
    "hangul": "안녕하세요 한국어 대한민국 ㅋㅋㅋ \u1112\u1161\u11ab 밯".split(),
    "mixed": "iPhone XMLHttpRequest camelCase snake_case SCREAMING don't I'LL we've O'Neil L'été α-helix H₂O x² ½ Ⅳ №5".split(),
}
EMOJI = "👋🏽 👩‍👩‍👧‍👦 🇫🇷 🏴‍☠️ 🏳️‍🌈 ❤️ ☃ 👨🏿‍🚀 1️⃣ 🫠 🧑‍🤝‍🧑 ©️ 🇺 \u200d \ufe0f 🏻".split(" ")
MARKS = ["e\u0301", "n\u0303\u0323", "a\u0300\u0301\u0302\u0303", "Z\u0351\u036b", "\u0301", "क\u094d\u200dष", "\u0e01\u0e33", "ｶ\uff9e"]
SPACES = [" ", "  ", "   ", "    ", " " * 7, " " * 16, " " * 33, "\t", "\t\t", " \t", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", " \n ", "\n\n\n  "]
SPACES += ["\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u000b", "\u000c", "\u200b", "\ufeff", "\n\t", "\t \n"]
CODE = [
    'fn main() { println!("{}", x[0] += 1); } // ok',
    "def f(x):\n    return x ** 2\n",
    "if (a && !b || c >= 0x1F) { i++; }",
    "SELECT * FROM t WHERE a <> 'b''c';",
    "<div class=\"a b\">&nbsp;</div>",
    "let s: &'a str = r#\"\\n\"#;",
    "#include <stdio.h>\n\n\tint *p = &a[-1];",
    "x = {'a': [1, 2.5e-3], \"b\": None}",
    "for i in $(seq 1 10); do echo \"$i\" >> /tmp/x; done",
    "a->b::c<d>()?.e ?? f!==g",
    "```python\nprint('hi')\n```",
    "/* --- */ ====== ###### ****** ______",
]
LINKS = [
    "https://example.org/a/b?c=d&e=%20f#g",
    "http://user:pw@[::1]:8080/~x/",
    "mailto:jane.doe+tag@example.co.uk",
    "C:\\Users\\x\\y.txt",
    "/usr/local/lib/../bin",
    "www.例え.jp/パス",
    "s3://bucket//key",
]
NUMBERS = "0 7 42 1234567890 3.14159 0x1F 10,000 1e-9 ²³ ½ 99% $5.00 €1.234,56 +1-555-0100 2024-07-26T12:00:00Z 00012 ١٢٣ ٤٫٥ 1_000 v1.2.3-rc.4".split()
CONTROLS = "<s> </s> <unk> <pad> [INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CALLS] [AVAILABLE_TOOLS] [THINK] [/THINK] [IMG]".split()
CONTROLS += "<SPECIAL_20> <SPECIAL_999> <|im_start|> <|im_end|> <|endoftext|> <0x0A> <0xFF> [control_8] [REF] [/REF] </ s> [ INST] ▁ ▁▁ Ġ Ċ ▁the Ġthe".split(" ")
ODD = ["\u0000", "\u0001", "\u001b[0m", "\u007f", "\ue000", "\uf8ff", "\U000f0000", "\U0010fffd", "\ufffd", "\ufffe", "\uffff", "\u202e", "\u00ad", "\U000e0041", "ⷀ", "\u0378", "𐎀", "ꙮ", "﷽", "\U0001f9ff"]


def make_lines():
    chance = random.Random(17)
    pick = chance.choice
    words = [word for group in WORDS.values() for word in group]

    def sentence():
        group = pick(list(WORDS.values()))
        text = " ".join(pick(group) for _ in range(chance.randint(1, 6)))
        return pick(["", "", " ", "  "]) + text + pick(["", ".", "!", "?!", "…", ":", ", ", " "])

    def anything():
        kind = pick([words, words, EMOJI, MARKS, SPACES, NUMBERS, CONTROLS, ODD])
        return pick(kind)

    def letters():
        ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x530), (0x590, 0x700), (0x900, 0xE80), (0x1E00, 0x2C00), (0x3000, 0x3400)]
        ranges += [(0x4E00, 0xA000), (0xA000, 0xD7A4), (0xE000, 0x10000), (0x10000, 0x12000), (0x1D400, 0x1D800), (0x1F300, 0x1FA00)]
        low, high = pick(ranges)
        return "".join(chr(chance.randrange(low, high)) for _ in range(chance.randint(1, 10)))

    def spaced():
        parts = [pick(SPACES) if chance.random() < 0.5 else pick(words) for _ in range(chance.randint(1, 7))]
        return "".join(parts)

    def control():
        return "".join(pick([pick(CONTROLS), pick(CONTROLS), pick(words), " ", ""]) for _ in range(chance.randint(1, 5)))

    def changed(text):
        at = chance.randrange(len(text) + 1)
        return pick([text[:at] + anything() + text[at:], text[at:], text[:at], text.upper(), text + text[at:], text.swapcase()])

    def repeated():
        part = pick([pick(words)[:2], pick(EMOJI), "a", "=", "-", "0", ".", " ", "\n", "é", "字", "the"])
        return part * chance.randint(2, 24)

    def digits():
        return pick(["", " ", "-"]).join(pick(NUMBERS) for _ in range(chance.randint(1, 3)))

    makers = [
        sentence, sentence, letters, spaced, control, repeated, digits,
        lambda: "".join(anything() for _ in range(chance.randint(1, 6))),
        lambda: changed(pick(CODE)), lambda: changed(pick(LINKS)), lambda: changed(sentence()),
        lambda: pick(words) + "".join(pick(MARKS + EMOJI) for _ in range(chance.randint(1, 3))),
    ]
    lines = dict.fromkeys(["", " ", "\n"] + CODE + LINKS + CONTROLS + ODD + SPACES + EMOJI + MARKS)
    while len(lines) < COUNT:
        lines.setdefault(pick(makers)())
    return list(lines)[:COUNT]


def cut_tekken(name, generation):
    """Writes a tekken.json with the first ranks of the real one."""
    real = json.loads((DATA / generation).read_text(encoding="utf-8"))
    ranks = RANKS[name]
    vocab = real["vocab"][: ranks + BEYOND]
    config = dict(real["config"], num_vocab_tokens=len(vocab), default_vocab_size=1000 + ranks)
    # Most texts are left out, which the format allows: the file is half as long.
    vocab = [dict(token, token_str=token["token_str"] if token["rank"] < 128 else None) for token in vocab]
    made = {"config": config, "vocab": vocab}
    if name == "tekken-v13":
        config["version"] = "v13"
        listed = [token["token_str"] for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + [f"<SPECIAL_{id}>" for id in range(20, 32)]
        listed += ["[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"]
        special = [{"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(listed)]
        made = {"config": config, "vocab": vocab, "version": 1, "type": "Tekken", "special_tokens": special}
        made["image"] = {"image_patch_size": 14, "max_image_size": 1540, "spatial_merge_size": 2}
    folder = FIXTURES / name
    folder.mkdir(exist_ok=True)
    path = folder / "tekken.json"
    path.write_text(json.dumps(made, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def digest(ids):
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:8]


class Fast:
    """A `tokenizers.Tokenizer` that reads control tokens as text."""

    def __init__(self, tokenizer):
        self.inner = tokenizer
        self.inner.encode_special_tokens = True

    def encode(self, text, bos, eos):
        return self.inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.inner.decode(ids, skip_special_tokens=True)


def main():
    lines = make_lines()
    v3 = cut_tekken("tekken-v3", "tekken_240718.json")
    v13 = cut_tekken("tekken-v13", "tekken_240911.json")
    peers = {"tekken-v3": Tekkenizer.from_file(v3), "tekken-v13": Tekkenizer.from_file(v13)}
    for version in ["v1", "v3", "v7"]:
        peers[version] = SentencePieceTokenizer(str(FIXTURES / f"tokenizer.model.{version}"))
    for name in ["smollm2", "mini-first", "mini-legacy"]:
        peers[name] = Fast(Tokenizer.from_file(str(FIXTURES / name / "tokenizer.json")))

    made = {"lines": lines, "digests": {}, "decoded": {}}
    for name, peer in peers.items():
        ids = [peer.encode(line, bos=False, eos=False) for line in lines]
        if name.startswith("tekken"):
            converted = Fast(MistralConverter(vocab_file=str(FIXTURES / name / "tekken.json"), add_prefix_space=False).converted())
            differ = [line for line, own in zip(lines, ids) if converted.encode(line, False, False) != own]
            assert not differ, f"{name}: transformers has other ids for {differ[:5]}"
        if name == "tekken-v3":
            made[name] = ids
        made["digests"][name] = [digest(own) for own in ids]
        decoded = [peer.decode(own) for own in ids]
        made["decoded"][name] = {str(at): text for at, (line, text) in enumerate(zip(lines, decoded)) if text != line}
        print(f"{name}: {sum(map(len, ids))} ids, {len(made['decoded'][name])} decoded to another text")

    chance = random.Random(18)
    count = peers["tekken-v3"].n_words
    shuffled = [[chance.randrange(1000, chance.choice([1256, count])) for _ in range(chance.randint(1, 12))] for _ in range(300)]
    made["bytes"] = [[ids, peers["tekken-v3"].decode(ids)] for ids in shuffled]
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    (HERE / "lines.json.gz").write_bytes(gzip.compress(text.encode("utf-8", "surrogatepass"), 9, mtime=0))


if __name__ == "__main__":
    main()
