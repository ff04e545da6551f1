"""How fast the server answers, beside llama.cpp's server in the same run.

    cargo build --release --example serve --example speed --example export
    python3 tests/serve/speed.py --examples target/release/examples [--peer] [--rounds 3]

Printed, as medians of the rounds: tokens a second of one stream and of eight, of eight with eight different adapters; the
time to the first token of a 512-token question while seven others talk, and the longest pause of the others meanwhile;
the time to the first token of a second turn; and what HTTP and streaming cost beside the engine alone. `--peer` runs
llama.cpp's server from the wheel `xllamacpp` (PyPI), on the same model, shipped and in the types given by --types.
"""

import argparse
import asyncio
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from client import Server, Stream, chat, get, post

# A question that a small model answers at length.
LONG = "Write a long story of a journey over the sea, with many details. Story number {}."


def talk(number, tokens, model, **more):
    return chat(model, LONG.format(number), tokens, temperature=0, **more)


async def streams(server, models, tokens):
    """Tokens a second of one stream for each of the models, together, from the first token of the last to begin."""
    bodies = [talk(number, tokens, model) for number, model in enumerate(models)]
    done = await asyncio.gather(*(Stream().run(server, body) for body in bodies))
    begun, end = max(stream.times[0] for stream in done), min(stream.times[-1] for stream in done)
    pieces = sum(sum(begun < time <= end for time in stream.times) for stream in done)
    # A piece of text can have several tokens, or a token none.
    per_piece = sum(stream.usage["completion_tokens"] for stream in done) / sum(len(stream.times) for stream in done)
    return pieces * per_piece / (end - begun)


async def interrupted(server, model, words):
    """A long question while seven others talk: seconds to its first token, and the longest pause of the others."""
    others = [Stream() for _ in range(7)]
    tasks = [asyncio.create_task(s.run(server, talk(n, 200, model))) for n, s in enumerate(others)]
    while not all(len(stream.times) > 5 for stream in others):
        await asyncio.sleep(0.005)
    question = " ".join(f"word{i % 9}" for i in range(words))
    long = await Stream().run(server, chat(model, question, 4, temperature=0))
    await asyncio.gather(*tasks)
    near = lambda stream: [b - a for a, b in zip(stream.times, stream.times[1:]) if b >= long.begun and a <= long.times[0]]
    return long.first(), max(max(near(stream), default=0) for stream in others), long.usage["prompt_tokens"]


async def second_turn(server, model, words):
    """A conversation of many tokens: seconds to the first token of its second turn, and those between two tokens."""
    question = " ".join(f"word{i % 7}" for i in range(words))
    first = await Stream().run(server, chat(model, question, 16, temperature=0))
    messages = [("user", question), ("assistant", first.text), ("user", "And then?")]
    body = {**chat(model, "", 16, temperature=0), "messages": [{"role": role, "content": text} for role, text in messages]}
    second = await Stream().run(server, body)
    cached = second.usage["prompt_tokens_details"]["cached_tokens"]
    return second.first(), statistics.median(second.gaps()), second.usage["prompt_tokens"], cached


def engine_alone(examples, batch, adapters=None):
    command = [str(examples / "speed"), "--batch", str(batch), "--prefill", "64", "--decode", "192", "--rounds", "3"]
    found = subprocess.run(command + (["--adapters", str(adapters)] if adapters else []), check=True, capture_output=True, text=True)
    return json.loads(found.stdout)["decode_tok_s"]


def fresh_adapters(folder, model_config, count, r):
    """PEFT adapters of random numbers on all projections."""
    import random
    import struct

    layers, d_model, inner = (model_config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    head_dim = d_model // model_config["num_attention_heads"]
    keys = model_config["num_key_value_heads"] * head_dim
    shapes = {
        "self_attn.q_proj": (d_model, d_model), "self_attn.k_proj": (keys, d_model), "self_attn.v_proj": (keys, d_model),
        "self_attn.o_proj": (d_model, d_model), "mlp.gate_proj": (inner, d_model), "mlp.up_proj": (inner, d_model),
        "mlp.down_proj": (d_model, inner),
    }
    for number in range(count):
        rng, place = random.Random(number), folder / f"a{number}"
        place.mkdir()
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": r, "lora_alpha": r, "target_modules": "all-linear"}
        (place / "adapter_config.json").write_text(json.dumps(config))
        header, data = {}, bytearray()
        for layer in range(layers):
            for name, (out, width) in shapes.items():
                for part, shape in [("lora_A", (r, width)), ("lora_B", (out, r))]:
                    values = [rng.uniform(-0.01, 0.01) for _ in range(shape[0] * shape[1])]
                    start = len(data)
                    data += struct.pack(f"<{len(values)}f", *values)
                    key = f"base_model.model.model.layers.{layer}.{name}.{part}.weight"
                    header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, len(data)]}
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        (place / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    return [("--adapter", f"a{number}={folder / f'a{number}'}") for number in range(count)]


SMOLLM2 = {
    "num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3
}


class Peer:
    """llama.cpp's server, in a process of its own."""

    SCRIPT = """
import sys, time, xllamacpp as x
path, threads, parallel, template = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
p = x.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.n_batch, p.warmup = path, 1024 * parallel, parallel, 512, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.hostnames, p.port, p.use_jinja, p.fit_params = ["127.0.0.1"], 0, True, False
p.cont_batching = True
server = x.Server(p)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
"""

    def __init__(self, python, model, threads, parallel):
        command = [python, "-c", self.SCRIPT, str(model), str(threads), str(parallel), ""]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        while not (line := self.process.stdout.readline()).startswith("listening on"):
            if not line:
                raise SystemExit("llama.cpp's server does not start")
        self.host, port = line.strip().rsplit("/", 1)[1].rsplit(":", 1)
        self.port = int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=pathlib.Path, required=True, help="the folder of the built examples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=192, help="tokens of each answer")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--peer", action="store_true", help="run llama.cpp's server too (needs --gguf)")
    parser.add_argument("--gguf", type=pathlib.Path, help="the same model as a GGUF, for the peer")
    parser.add_argument("--python", default=sys.executable, help="a Python with xllamacpp")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapters = fresh_adapters(pathlib.Path(folder), SMOLLM2, 8, 8)
        with Server(arguments.examples / "serve", "--model", arguments.model, *sum(adapters, ())) as server:
            asyncio.run(measure(server, arguments))
    print(f"engine alone: one {engine_alone(arguments.examples, 1):.0f}, eight {engine_alone(arguments.examples, 8):.0f} tokens/s")
    if arguments.peer:
        with Peer(arguments.python, arguments.gguf, arguments.threads, 8) as peer:
            rows = asyncio.run(repeated(peer, ["model"], ["model"] * 8, arguments))
            print(f"llama.cpp: one stream {rows[0]:.0f}, eight {rows[1]:.0f} tokens/s")


async def repeated(server, one, eight, arguments):
    return medians([[await streams(server, one, arguments.tokens), await streams(server, eight, arguments.tokens)] for _ in range(arguments.rounds)])


async def measure(server, arguments):
    base, *adapters = [model["id"] for model in (await get(server, "/v1/models"))["data"]]
    one, eight = await repeated(server, [base], [base] * 8, arguments)
    adapted = statistics.median([await streams(server, adapters, arguments.tokens) for _ in range(arguments.rounds)])
    print(f"one stream {one:.0f}, eight {eight:.0f}, eight with eight adapters {adapted:.0f} tokens/s ({adapted / eight:.2f})")
    first, pause, tokens = medians([await interrupted(server, base, 500 + n) for n in range(arguments.rounds)])
    print(f"a question of {tokens:.0f} tokens while seven talk: first token after {first * 1e3:.0f} ms, longest pause {pause * 1e3:.0f} ms")
    first, gap, tokens, cached = medians([await second_turn(server, base, 1900 + n) for n in range(arguments.rounds)])
    print(f"second turn of {tokens:.0f} tokens ({cached:.0f} kept): first token after {first * 1e3:.1f} ms, {gap * 1e3:.1f} ms a token")


if __name__ == "__main__":
    main()
