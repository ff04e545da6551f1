"""Talks to foehn-serve with OpenAI's own clients, and checks what they make of its answers.

    cargo build -p foehn-serve --example fake_server
    python tests/interop/openai_clients.py --serve target/debug/examples/fake_server 127.0.0.1:8123
    python tests/interop/openai_clients.py --server http://127.0.0.1:8000 --key SECRET --model NAME
    python tests/interop/openai_clients.py --server http://127.0.0.1:8000 --lm-eval TOKENIZER_FOLDER --fuzz

With --serve, everything after it is the command that starts a server; the address is the argument that looks like one (or the
value of --url), and the server is ended with SIGTERM, after which it has to exit with 0. Checked are, with the package `openai`
and, where there is `node`, with npm's `openai`: models, chat, streams with usage, stop strings, seeds, choices, log-probabilities,
plain completions with echo, tools, JSON by a schema, and errors. With --lm-eval, lm-evaluation-harness scores a small task through
`local-completions` (with the model's tokenizer in the given folder: `export --out` writes it); with --fuzz, schemathesis sends what /openapi.json describes. Both are large and not in CI.

A server without tools in its template passes if it says so. If this Python lacks the packages, they are installed into a fresh
environment, for at most ten minutes. Where that can't be done, the script says so and passes.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PACKAGES = ["openai>=2,<4"]
NPM = "openai@6"
# The folder of this script has one called `tokenizers`.
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).resolve().parent]

QUESTION = [{"role": "user", "content": "What modality is: 'A bell rang'?"}]
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
SCHEMA = {"type": "object", "properties": {"modality": {"enum": ["Auditory", "Visual"]}, "sure": {"type": "boolean"}},
          "required": ["modality", "sure"], "additionalProperties": False}


def in_own_environment(extra):
    """Runs this script again in an environment with the packages; returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin/python"
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES, *extra], check=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"skipped, the packages can't be installed: {error}")
            return 0
        environment = dict(os.environ, FOEHN_INTEROP="1", PATH=f"{folder}/bin:{os.environ['PATH']}")
        return subprocess.run([python, __file__, *sys.argv[1:]], env=environment).returncode


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", help="the address of a running server")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, help="a command that starts one; everything after it")
    parser.add_argument("--url", help="where the started server answers")
    parser.add_argument("--key", default="none", help="its API key")
    parser.add_argument("--model", help="the model; the first one if not given")
    parser.add_argument("--lm-eval", metavar="FOLDER", help="runs lm-evaluation-harness, with the tokenizer of this folder")
    parser.add_argument("--fuzz", action="store_true")
    given = parser.parse_args()
    if not given.server and not given.serve:
        parser.error("--server or --serve is needed")
    return given


def until_ready(url, process):
    for _ in range(600):
        try:
            urllib.request.urlopen(url + "/health", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}")
            time.sleep(0.5)
    sys.exit("the server does not answer")


def main():
    given = arguments()
    extra = ["lm-eval[api]", "transformers"] * bool(given.lm_eval) + ["schemathesis>=4"] * given.fuzz
    try:
        import openai  # noqa: F401
    except ImportError as error:
        if "FOEHN_INTEROP" in os.environ:
            sys.exit(f"the packages are installed and can't be loaded: {error}")
        return in_own_environment(extra)
    if extra and "FOEHN_INTEROP" not in os.environ:
        return in_own_environment(extra)
    if given.server:
        return checks(given, given.server.rstrip("/"))
    address = next((word for word in given.serve if ":" in word and word.rpartition(":")[2].isdigit()), None)
    url = given.url or f"http://{address or '127.0.0.1:8000'}"
    try:
        urllib.request.urlopen(url + "/health", timeout=5)
        sys.exit(f"something answers at {url} already: choose another address")
    except (urllib.error.URLError, OSError):
        process = subprocess.Popen(given.serve)
    try:
        until_ready(url, process)
        checks(given, url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, "a server that drains ends with 0"
    finally:
        if process.poll() is None:
            process.kill()
    return 0


def checks(given, url):
    from openai import OpenAI

    client = OpenAI(base_url=url + "/v1", api_key=given.key, max_retries=0, timeout=600)
    models = [model.id for model in client.models.list()]
    model = given.model or models[0]
    assert client.models.retrieve(model).id == model
    for check in (chat, stream, settings, logprobs, completions, tools, json_mode, errors):
        check(client, model)
        print(f"openai (Python): {check.__name__}", flush=True)
    interface(url, given.key)
    node(url, given.key, model)
    if given.lm_eval:
        lm_eval(url, given.key, model, given.lm_eval)
    if given.fuzz:
        fuzz(url, given.key, model)
    return 0


def chat(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=16)
    choice = answer.choices[0]
    assert answer.object == "chat.completion" and answer.model == model and answer.id and answer.created
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert 0 < usage.completion_tokens <= 16 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    again = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=16)
    assert again.choices[0].message.content == choice.message.content
    assert 0 <= again.usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    # What came back is sent back, as the client gives it.
    turns = [*QUESTION, choice.message.model_dump(), {"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    assert client.chat.completions.create(model=model, messages=turns, max_tokens=4).choices


def stream(client, model):
    whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=24)
    options = {"include_usage": True}
    pieces = list(client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=24, stream=True, stream_options=options))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content, (text, whole)
    assert pieces[0].choices[0].delta.role == "assistant" and not pieces[-1].choices
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [p.choices[0].finish_reason for p in pieces if p.choices][-1] == whole.choices[0].finish_reason
    assert all(piece.object == "chat.completion.chunk" and piece.id == pieces[0].id for piece in pieces)
    # A client that has heard enough.
    with client.chat.completions.create(model=model, messages=QUESTION, stream=True) as unfinished:
        next(iter(unfinished))
    # (`get_final_completion` takes an answer that was too long for an error.)
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0, max_tokens=24) as events:
        assert "".join(event.delta for event in events if event.type == "content.delta") == text


def settings(client, model):
    whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=24)
    text = whole.choices[0].message.content
    stop = text[len(text) // 2:][:3]
    cut = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=24, stop=[stop])
    assert cut.choices[0].message.content == text.partition(stop)[0] and cut.choices[0].finish_reason == "stop"
    one = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=1)
    assert one.usage.completion_tokens == 1 and one.choices[0].finish_reason == "length"
    several = lambda: client.chat.completions.create(
        model=model, messages=QUESTION, n=3, seed=7, temperature=1.2, top_p=0.9, max_completion_tokens=12,
        extra_body={"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1})
    choices = several().choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert [choice.message.content for choice in several().choices] == [choice.message.content for choice in choices]


def logprobs(client, model):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode(errors="ignore").strip() in answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        values = [top.logprob for top in token.top_logprobs]
        assert values == sorted(values, reverse=True) and abs(values[0] - token.logprob) < 1e-3, "greedy"


def completions(client, model):
    answer = client.completions.create(model=model, prompt="A bell rang", max_tokens=6, temperature=0, echo=True, logprobs=2)
    choice = answer.choices[0]
    assert answer.object == "text_completion" and choice.text.startswith("A bell rang")
    lists = choice.logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset)
    assert lists.token_logprobs[0] is None and all(value <= 0 for value in lists.token_logprobs[1:])
    assert lists.text_offset == sorted(lists.text_offset)
    assert all(2 <= len(top) <= 3 for top in lists.top_logprobs[1:] if top)
    prompt = client.completions.create(model=model, prompt=["A bell rang", "B"], max_tokens=0, echo=True, logprobs=1)
    assert [choice.text for choice in prompt.choices] == ["A bell rang", "B"] and prompt.usage.completion_tokens == 0
    known = prompt.choices[0].logprobs.token_logprobs
    assert all(abs(a - b) < 0.05 for a, b in zip(known[1:], lists.token_logprobs[1:])), "the same prompt, the same numbers"
    pieces = client.completions.create(model=model, prompt="A bell rang", max_tokens=6, temperature=0, stream=True)
    assert "A bell rang" + "".join(piece.choices[0].text for piece in pieces) == choice.text


def tools(client, model):
    import openai

    try:
        answer = client.chat.completions.create(model=model, messages=QUESTION, tools=TOOLS, temperature=0, max_tokens=128)
    except openai.BadRequestError as error:
        assert "template" in error.body["message"], error
        return print("    the model's template has no tools, and says so")
    message = answer.choices[0].message
    if not message.tool_calls:
        return print("    the model called no tool")
    assert answer.choices[0].finish_reason == "tool_calls"
    call = message.tool_calls[0]
    assert call.type == "function" and call.function.name and isinstance(json.loads(call.function.arguments), dict)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    turns = [*QUESTION, message.model_dump(exclude_none=True), result]
    assert client.chat.completions.create(model=model, messages=turns, tools=TOOLS, max_tokens=8).choices
    with client.chat.completions.stream(model=model, messages=QUESTION, tools=TOOLS, temperature=0, max_tokens=128) as events:
        streamed = events.get_final_completion().choices[0].message.tool_calls[0]
    assert streamed.function.arguments == call.function.arguments


def json_mode(client, model):
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, response_format=form, seed=1, temperature=1, max_tokens=400)
    value = json.loads(answer.choices[0].message.content)
    assert value["modality"] in ("Auditory", "Visual") and isinstance(value["sure"], bool) and len(value) == 2
    form = {"type": "json_object"}
    answer = client.chat.completions.create(model=model, messages=QUESTION, response_format=form, seed=1, max_tokens=400)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def errors(client, model):
    import openai

    def fails(kind, code=None, param=None, **fields):
        try:
            client.chat.completions.create(**{"model": model, "messages": QUESTION, **fields})
        except kind as error:
            assert (code is None or error.code == code) and (param is None or error.param == param), error.body
            assert error.body["message"] and error.body["type"]
        else:
            raise AssertionError(f"{fields} is accepted")

    fails(openai.NotFoundError, code="model_not_found", model="none")
    fails(openai.BadRequestError, param="temperature", temperature=-1)
    fails(openai.BadRequestError, param="n", n=17)
    fails(openai.BadRequestError, param="tempratur", extra_body={"tempratur": 1})
    fails(openai.BadRequestError, param="messages", messages=[])
    fails(openai.BadRequestError, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    fails(openai.BadRequestError, code="context_length_exceeded", messages=[{"role": "user", "content": "bell " * 200_000}])


def interface(url, key):
    """What OpenAI's clients don't ask for."""
    def ask(path, body=None):
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=60) as answer:
            return answer.read().decode()

    tokens = json.loads(ask("/tokenize", {"content": "A bell </s> rang"}))
    assert tokens["count"] == len(tokens["tokens"]) > 3
    assert json.loads(ask("/detokenize", {"tokens": tokens["tokens"]}))["content"].strip() == "A bell </s> rang"
    assert json.loads(ask("/openapi.json"))["openapi"].startswith("3.1") and json.loads(ask("/health")) == {"status": "ok"}
    assert "foehn_generated_tokens_total" in ask("/metrics") and json.loads(ask("/foehn/info"))["models"]
    assert "<html" in ask("/").lower()
    print("tokenize, detokenize, health, metrics, info, page", flush=True)


NODE = """
import OpenAI from "openai";
import assert from "node:assert";
const [url, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url + "/v1", apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "What modality is: 'A bell rang'?" }];
const asked = { model, messages, temperature: 0, max_tokens: 16 };
const whole = await client.chat.completions.create({ ...asked, logprobs: true });
assert(whole.choices[0].message.content && whole.choices[0].logprobs.content[0].bytes.length);
let text = "";
for await (const piece of await client.chat.completions.create({ ...asked, stream: true })) text += piece.choices[0].delta.content ?? "";
assert.equal(text, whole.choices[0].message.content);
assert((await client.models.list()).data.some((found) => found.id === model));
const plain = await client.completions.create({ model, prompt: "A bell", echo: true, max_tokens: 2 });
assert(plain.choices[0].text.startsWith("A bell"));
await assert.rejects(client.chat.completions.create({ ...asked, model: "none" }), (error) => error.status === 404 && error.code === "model_not_found");
"""


def node(url, key, model):
    if not shutil.which("node") or not shutil.which("npm"):
        return print("openai (Node): skipped, there is no node")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "check.mjs").write_text(NODE)
        try:
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", NPM]
            subprocess.run(command, cwd=folder, check=True, timeout=300, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            return print(f"openai (Node): skipped, the package can't be installed: {error}")
        subprocess.run(["node", "check.mjs", url, key, model], cwd=folder, check=True, timeout=600)
    print("openai (Node): chat, stream, models, completions, errors", flush=True)


TASK = """
task: foehn_senses
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""
SENTENCES = [("A bell rang in the yard.", 1), ("The paint was a bright red.", 0), ("The soup tasted of salt.", 4), ("Her hands were cold.", 2),
             ("The bread smelled sweet.", 3), ("A dog barked all night.", 1), ("The sky turned grey.", 0), ("The wool felt rough.", 2)]


def lm_eval(url, key, model, tokenizer):
    """A small task of the harness, with ids of its own tokenizer and with texts: the same log-likelihoods."""
    senses = ["Visual", "Auditory", "Kinesthetic", "Olfactory", "Gustatory"]
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = [{"question": f"What modality is: '{text}'?", "choices": senses, "answer": answer} for text, answer in SENTENCES]
        (folder / "data.json").write_text(json.dumps(records))
        (folder / "foehn_senses.yaml").write_text(TASK.format(data=folder / "data.json"))
        base = f"model={model},base_url={url}/v1/completions,num_concurrent=2,max_retries=1,tokenizer_backend=huggingface,tokenizer={tokenizer}"
        for form in ("tokenized_requests=True", "tokenized_requests=False"):
            command = ["lm_eval", "--model", "local-completions", "--model_args", f"{base},{form}", "--tasks", "foehn_senses",
                       "--include_path", name, "--batch_size", "4", "--log_samples", "--output_path", str(folder / form)]
            subprocess.run(command, check=True, env=dict(os.environ, OPENAI_API_KEY=key, HF_DATASETS_OFFLINE="1"))
            samples = next((folder / form).rglob("samples_*.jsonl")).read_text().splitlines()
            responses = sorted((sample["doc_id"], sample["filtered_resps"]) for sample in map(json.loads, samples))
            found.append([float(value) for _, choices in responses for value, _ in choices])
            print(f"lm-evaluation-harness: {form}", flush=True)
    assert len(found[0]) == len(senses) * len(SENTENCES), found[0]
    worst = max(abs(one - other) for one, other in zip(*found))
    assert worst < 1e-4, f"ids and texts differ by {worst}"


def fuzz(url, key, model):
    """No answer but those that are described, and none of 500. Requests name a model that there is."""
    with urllib.request.urlopen(url + "/openapi.json", timeout=60) as answer:
        document = json.load(answer)
    for name in ("ChatRequest", "CompletionRequest"):
        fields = document["components"]["schemas"][name]["properties"]
        fields["model"] = {"const": model}
        fields["max_tokens"] = {"type": "integer", "minimum": 1, "maximum": 8}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(document))
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        subprocess.run(["schemathesis", "run", file, "--url", url, "--header", f"Authorization: Bearer {key}", "--checks", checks,
                        "--max-examples", "50"], check=True)
    print("schemathesis", flush=True)


if __name__ == "__main__":
    sys.exit(main())
