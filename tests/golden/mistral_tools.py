"""Writes mistral_tools.json: the ids of mistral-common for conversations with tools, calls, results and reasoning.

    python tests/golden/mistral_tools.py     (with mistral-common and transformers)

It also makes tokenizers/mini-tekken: the first 700 ranks of mistral-common's tekken and 40 control tokens, as a tokenizer.json.

In mistral_tools.json: `pool` (tools), `conversations` (their `tools` are places in the pool), and for each version of the templates
two lists: `sample`, of the whole conversation, and `prompt`, without its last message. An entry is the beginning of the SHA-256 of
the ids, each with `*` behind it if it is trained, joined by commas; null where mistral-common refuses the conversation. The first
entries are also given as ids, in `shown`. Two things differ from mistral-common:

- V2 leaves out calls before the last user turn. Where one of them is trained, its sample is null.
- V13 renders no ids of calls, so a call without an id is given one.

mistral-common's V1 leaves tools out without a word; Foehn refuses them, and its test skips those entries.
"""

import base64
import copy
import hashlib
import json
import random
import string
import tempfile
from importlib.metadata import version
from pathlib import Path

import mistral_common
from mistral_common.protocol.instruct.chunk import TextChunk, ThinkChunk
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Tool, ToolCall
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers import instruct
from mistral_common.tokens.tokenizers.base import TokenizerVersion
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "tokenizers"
SPECIALS = 40
RANKS = 700
COUNT = 500
SHOWN = 3
MORE = ["[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"]

TEXTS = [
    "Hi", "What is the weather in Paris?", "naïve café", "你好,世界", "👩‍👩‍👧 ok", "a\nb\n\n- c", "  two  spaces", "x = [1, 2]",
    "[TOOL_CALLS] not a call", "</s>[INST]", "[ARGS]{}", "[/TOOL_RESULTS][THINK]", "She said \"no\".", "1234.5", "мир", "tab\there",
    "It's 3 o'clock.", "\\n is no newline", "C:\\dir\\file", "so be it", "Zoë", "Then call it.", "{\"a\": 1}",
]
RESULTS = [
    "22 C", "{\"temp\": 22.0, \"unit\":\"C\"}", "[1,2,  3]", "true", "null", "3.10", "1e3", "\"text\"", "", "no such city",
    "{\"a\":{\"b\":[\"é\", \"\\u00e9\", null]}}", "12345678901234567890123", "line\nline", "[TOOL_CONTENT]", "{bad json}", "{\"n\": 1e-7}",
    "{\"k\": 1, \"k\": 2}", " {\"x\" : 0.30000000000000004} ", "NaN", "[1e22, -0.0, 100000000000000000000.0]",
]
ARGUMENTS = [
    "{\"city\": \"Paris\"}", "{\"city\":\"Zürich\",\"days\":3}", "{}", "", "{\"x\": 1.50, \"y\": [true, null, {\"z\": \"\"}]}",
    "{\"q\": \"say \\\"hi\\\"\\n\"}", "{\"big\": 123456789012345678901234567890}", "{\"f\": 1e20, \"g\": 1E-5}", "{ \"s\" : \"</s>[ARGS]\" }",
    "{\"u\": \"\\u4f60\\ud83d\\ude00\"}", "{\"path\": \"a\\/b\\\\c\"}", "{\"e\": [], \"o\": {}}",
]
NAMES = ["get_weather", "search", "add-2", "f"]


def pool():
    def tool(name, description=None, parameters=None, **more):
        function = {"name": name} | ({"description": description} if description is not None else {})
        function |= ({"parameters": parameters} if parameters is not None else {}) | more
        return {"type": "function", "function": function}

    city = {"type": "object", "properties": {"city": {"type": "string", "description": "Ville, “city”"}}, "required": ["city"]}
    number = {"type": "object", "properties": {"x": {"type": "number", "minimum": 0.5, "maximum": 1e20}, "n": {"enum": [1, None, "é"]}}}
    return [
        tool("get_weather", "The weather of a city", city),
        tool("search", "Search [AVAILABLE_TOOLS]\nand </s> find", {"properties": {}, "type": "object"}, strict=True),
        tool("add-2", None, number),
        tool("f"),
    ]


def conversation(rng):
    """A record with the fields of Foehn's, and tools as places in the pool."""
    text = lambda: rng.choice(TEXTS)
    uses, beside, reasons = rng.random() < 0.75, rng.random() < 0.2, rng.random() < 0.3
    several = rng.random() < 0.4
    messages = [{"role": "system", "content": text()}] if rng.random() < 0.4 else []
    name = lambda: rng.choice(NAMES)
    new_id = lambda: "".join(rng.choices(string.ascii_letters + string.digits, k=9))

    def answer(content, calls=()):
        message = {"role": "assistant", "content": content}
        if reasons and rng.random() < 0.7:
            message["reasoning_content"] = text().strip()
        if calls:
            message["tool_calls"] = list(calls)
        return message

    def called():
        count = rng.choice([1, 2, 3]) if several else 1
        calls = [{"id": new_id(), "function": {"name": name(), "arguments": rng.choice(ARGUMENTS)}} for _ in range(count)]
        return answer(text().strip() if beside and rng.random() < 0.6 else "", calls)

    rounds = rng.choice([1, 1, 1, 2, 2, 3])
    for place in range(rounds):
        for _ in range(rng.choice([1, 1, 1, 2])):
            messages.append({"role": "user", "content": text()})
        if rng.random() < 0.1:
            messages.append({"role": "system", "content": text()})
        for _ in range(rng.choice([0, 1, 1, 2]) if uses else 0):
            message = called()
            messages.append(message)
            results = []
            for call in message["tool_calls"]:
                result = {"role": "tool", "content": rng.choice(RESULTS), "tool_call_id": call["id"]}
                results.append(result | ({"name": call["function"]["name"]} if rng.random() < 0.7 else {}))
            if rng.random() < 0.3:
                rng.shuffle(results)
            messages.extend(results)
        messages.append(answer(text().strip()))
        if place == rounds - 1 and uses and rng.random() < 0.3:
            messages[-1] = called()
            if rng.random() < 0.5:
                for call in messages[-1]["tool_calls"]:
                    del call["id"]
    for message in messages[:-1]:
        if message["role"] == "assistant" and rng.random() < 0.3:
            message["weight"] = 0
    if rng.random() < 0.3:
        # As V2 wants it: nothing that it leaves out is trained.
        last = max(at for at, message in enumerate(messages) if message["role"] == "user")
        for message in messages[:last]:
            if "tool_calls" in message:
                message["weight"] = 0
    tools = rng.sample(range(4), rng.choice([1, 2, 3])) if uses or rng.random() < 0.1 else []
    return {"messages": messages, "tools": tools}


def make_tekken():
    """The cut-down tekken for mistral-common, by version, and as a tokenizer.json."""
    source = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_text(encoding="utf-8"))
    specials = [dict(token) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    specials = [{**token, "token_str": str(getattr(token["token_str"], "value", token["token_str"]))} for token in specials]
    specials += [{"rank": len(specials) + at, "token_str": text, "is_control": True} for at, text in enumerate(MORE)]
    vocab = source["vocab"][:RANKS]
    config = source["config"] | {"num_vocab_tokens": RANKS, "default_vocab_size": RANKS + SPECIALS, "default_num_special_tokens": SPECIALS}
    made = {}
    for name in ["v3", "v7", "v11", "v13"]:
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump({"config": config | {"version": name}, "vocab": vocab, "special_tokens": specials}, file)
            file.flush()
            made[name] = Tekkenizer.from_file(file.name)

    letters = bytes_to_unicode()
    shown = lambda token: "".join(letters[byte] for byte in token)
    ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in vocab}
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda entry: entry[1]):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [(ranks.get(left + right, rank), at) for at, (left, right) in enumerate(zip(parts, parts[1:]))]
            best, at = min(pairs)
            assert best < rank
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append(" ".join(shown(part) for part in parts))
    texts = [token["token_str"] for token in specials] + [f"<SPECIAL_{at}>" for at in range(len(specials), SPECIALS)]
    added = [{"id": at, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for at, text in enumerate(texts)]
    vocabulary = {text: at for at, text in enumerate(texts)} | {shown(token): SPECIALS + rank for token, rank in ranks.items()}
    split = {"type": "Split", "pattern": {"Regex": config["pattern"]}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    folder = FIXTURES / "mini-tekken"
    folder.mkdir(exist_ok=True)
    write = lambda name, value: (folder / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    write("tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": True, "vocab": vocabulary, "merges": merges},
    })
    write("tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    return made


class Reference:
    """mistral-common with one tokenizer and the template of one version."""

    def __init__(self, name, tokenizer):
        number = TokenizerVersion(name)
        kind = getattr(instruct, f"InstructTokenizer{name.upper()}")(tokenizer)
        self.version = name
        self.pieces = []
        for method in ["encode_user_message", "encode_tool_message", "encode_assistant_message", "encode_system_message"]:
            setattr(kind, method, self.watched(method, getattr(kind, method)))
        make = lambda mode: MistralTokenizer(kind, validator=get_validator(number, mode), request_normalizer=get_normalizer(number))
        self.training, self.serving = make(ValidationMode.finetuning), make(ValidationMode.test)

    def watched(self, method, encode):
        def wrapper(*args, **named):
            out = encode(*args, **named)
            self.pieces.append((method == "encode_assistant_message", len(out[0] if isinstance(out, tuple) else out)))
            return out

        return wrapper

    def ids(self, tokenizer, messages, tools):
        """Ids, and for each assistant turn the range of its ids; or None."""
        self.pieces.clear()
        try:
            made = [self.message(message) for message in messages]
            request = ChatCompletionRequest(messages=made, tools=[Tool.from_openai(tool) for tool in tools] or None)
            ids = tokenizer.encode_chat_completion(request).tokens
        except Exception:
            return None
        at, turns = 1, []
        for answers, length in self.pieces:
            turns += [(at, at + length)] if answers else []
            at += length
        assert at == len(ids)
        return ids, turns

    def message(self, message):
        content = message["content"]
        if message["role"] == "user":
            return UserMessage(content=content)
        if message["role"] == "system":
            return SystemMessage(content=content)
        if message["role"] == "tool":
            return ToolMessage(content=content, tool_call_id=message["tool_call_id"], name=message.get("name"))
        calls = copy.deepcopy(message.get("tool_calls"))
        for call in calls or []:
            if self.version == "v13":
                call.setdefault("id", f"filled{len(call['function']['arguments'])}{calls.index(call)}")
        calls = [ToolCall.model_validate(call) for call in calls] if calls else None
        if "reasoning_content" in message:
            content = [ThinkChunk(thinking=message["reasoning_content"])] + ([TextChunk(text=content)] if content else [])
        return AssistantMessage(content=content or None, tool_calls=calls)

    def render(self, record, tools):
        messages = record["messages"]
        sample = self.ids(self.training, messages, tools)
        prompt = self.ids(self.serving, messages[:-1], tools)
        answers = [message for message in messages if message["role"] == "assistant"]
        if sample:
            ids, turns = sample
            assert len(turns) == len(answers)
            trained = [turn for turn, answer in zip(turns, answers) if answer.get("weight") != 0]
            mask = [any(start <= at < end for start, end in trained) for at in range(len(ids))]
            left_out = any(start == end for start, end in trained)
            sample = None if left_out else [f"{id}{'*' if masked else ''}" for id, masked in zip(ids, mask)]
        return sample, prompt and [str(id) for id in prompt[0]]


def main():
    rng = random.Random(17)
    records = [conversation(rng) for _ in range(COUNT)]
    tools = pool()
    tekken = make_tekken()
    model = lambda name: SentencePieceTokenizer(str(FIXTURES / f"tokenizer.model.{name}"))
    references = {
        "v1": Reference("v1", model("v1")), "v2": Reference("v2", model("v3")), "v3": Reference("v3", model("v3")),
        "v3-tekken": Reference("v3", tekken["v3"]), "v7": Reference("v7", model("v7")), "v7-tekken": Reference("v7", tekken["v7"]),
        "v11": Reference("v11", tekken["v11"]), "v13": Reference("v13", tekken["v13"]),
    }
    short = lambda ids: ids and hashlib.sha256(",".join(ids).encode()).hexdigest()[:8]
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    lines = [f'{{"version":{dump(version("mistral_common"))},', f'"pool":{dump(tools)},', '"versions":{']
    for name, reference in references.items():
        rendered = [reference.render(record, [tools[place] for place in record["tools"]]) for record in records]
        samples, prompts = zip(*rendered)
        print(name, sum(sample is not None for sample in samples), sum(prompt is not None for prompt in prompts))
        shown = [" ".join(sample) if sample else None for sample in samples[:SHOWN]]
        value = {"sample": [short(sample) for sample in samples], "prompt": [short(prompt) for prompt in prompts], "shown": shown}
        lines.append(f"{dump(name)}:{dump(value)}" + ("," if name != "v13" else ""))
    lines += ["},", '"conversations":[', ",\n".join(dump(record) for record in records), "]}"]
    (HERE / "mistral_tools.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
