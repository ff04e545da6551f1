"""Writes chat_tools.json: the ids that transformers gives conversations with tools, by the templates in chat_templates/.

    python tests/golden/chat_tools.py     (with transformers and tokenizers, after mistral_tools.py)

The tokenizer is tokenizers/smollm2. The conversations are those of mistral_tools.py, by another seed and without texts that spell
control tokens. For each template: a list with, for each conversation, null where the template raises or leaves out a part that a
sample needs (what Foehn refuses), and otherwise the beginnings of the SHA-256 of the ids of the whole conversation, each with `*`
behind it where it is trained, and of the prompt. A turn is trained from the end of its generation prompt to its stop token.
"""

import hashlib
import json
import random
from importlib.metadata import version

from mistral_tools import FIXTURES, HERE, conversation, pool
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

COUNT = 200
CONTROL = ["</s>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"]


def shown(record):
    """The messages as transformers wants them: arguments are objects."""
    messages = []
    for message in record["messages"]:
        message = {key: value for key, value in message.items() if key != "weight"}
        calls = [
            {"type": "function"} | call | {"function": {**call["function"], "arguments": json.loads(call["function"]["arguments"] or "{}")}}
            for call in message.get("tool_calls", [])
        ]
        messages.append(message | ({"tool_calls": calls} if calls else {}))
    return messages


def main():
    rng = random.Random(71)
    records = []
    while len(records) < COUNT:
        record = conversation(rng)
        if not any(control in json.dumps(record, ensure_ascii=False) for control in CONTROL):
            records.append(record)
    tools = pool()
    tools[1]["function"]["description"] = "Search\nand find"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(FIXTURES / "smollm2" / "tokenizer.json")), bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def render(record):
        messages = shown(record)
        given = [tools[place] for place in record["tools"]] or None
        ids = lambda messages, prompt: tokenizer.apply_chat_template(
            messages, tools=given, tokenize=True, add_generation_prompt=prompt, return_dict=False)
        text = lambda messages: tokenizer.apply_chat_template(messages, tools=given, tokenize=False)
        try:
            whole, prompt = ids(messages, False), ids(messages[:-1], True)
            mask, all_text = [False] * len(whole), text(messages)
            for at, message in enumerate(record["messages"]):
                if message["role"] != "assistant":
                    continue
                calls = message.get("tool_calls", [])
                if calls and message["content"] and not text(messages[:at + 1]).count(message["content"]) > text(messages[:at]).count(message["content"]):
                    return None
                if message.get("weight") == 0:
                    continue
                if "reasoning_content" in message:
                    # A turn's reasoning stands in the whole conversation only if removing it changes the text.
                    less = [dict(other) for other in messages]
                    del less[at]["reasoning_content"]
                    if text(less) == all_text:
                        return None
                start = ids(messages[:at], True)
                assert whole[: len(start)] == start
                end = whole.index(stop, len(start)) + 1
                mask[len(start) : end] = [True] * (end - len(start))
        except Exception as error:
            return None
        return [[f"{id}{'*' if masked else ''}" for id, masked in zip(whole, mask)], [str(id) for id in prompt]]

    short = lambda ids: hashlib.sha256(",".join(ids).encode()).hexdigest()[:8]
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    lines = [f'{{"version":{dump(version("transformers"))},', f'"pool":{dump(tools)},', '"templates":{']
    names = ["qwen2", "qwen3", "llama3"]
    for name in names:
        tokenizer.chat_template = (HERE / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
        rendered = [render(record) for record in records]
        print(name, sum(made is not None for made in rendered))
        value = [made and [short(ids) for ids in made] for made in rendered]
        lines.append(f"{dump(name)}:{dump(value)}" + ("," if name != names[-1] else ""))
    lines += ["},", '"conversations":[', ",\n".join(dump(record) for record in records), "]}"]
    (HERE / "chat_tools.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
