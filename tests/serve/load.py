"""Many clients at once, a third of which hang up: no error but those asked for, and the memory stays flat.

    cargo build --release --example serve
    python3 tests/serve/load.py --serve target/release/examples/serve --seconds 600

Each client asks one thing after another: a chat as a stream or whole, a completion with log-probabilities, a bad request,
something too long. All answers of one seed have to be the same, whoever asks beside it.
"""

import argparse
import asyncio
import random
import time

from client import Refused, Server, Stream, chat, get, post

QUESTIONS = [
    "What modality is: 'A bell rang'?",
    "Describe a quiet street after rain.",
    "Name three colours.",
    "Which sense does this use: 'The bread smelled sweet'?",
    "Tell me about the sea, at length.",
]
# What may go wrong: what was asked for wrongly, and a full queue.
EXPECTED = {400, 404, 429}


class Load:
    def __init__(self, server, models, seconds):
        self.server, self.models = server, models
        self.end = time.monotonic() + seconds
        self.counts, self.answers, self.memory = {}, {}, []

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def client(self, number):
        rng = random.Random(number)
        hangs_up = number % 3 == 0
        while time.monotonic() < self.end:
            try:
                await self.ask(rng, hangs_up)
            except Refused as error:
                assert error.status in EXPECTED, error
                self.count(str(error.status))
                if error.status == 429:
                    await asyncio.sleep(rng.uniform(0.05, 0.5))

    async def ask(self, rng, hangs_up):
        question, model, seed = rng.choice(QUESTIONS), rng.choice(self.models), rng.randrange(4)
        body = chat(model, question, rng.choice([1, 8, 24]), seed=seed, temperature=0.8 if seed else 0)
        kind = rng.randrange(20)
        if kind == 0:
            await post(self.server, "/v1/chat/completions", {**body, "temperature": "hot"})
        elif kind == 1:
            await post(self.server, "/v1/chat/completions", chat("nobody", question, 4))
        elif kind == 2:
            await post(self.server, "/v1/chat/completions", chat(model, question * 4000, 4))
        elif kind == 3:
            found = await post(
                self.server, "/v1/completions", {"model": model, "prompt": question, "max_tokens": 1, "echo": True, "logprobs": 1}
            )
            values = found["choices"][0]["logprobs"]["token_logprobs"]
            self.same((model, question), values)
        elif hangs_up:
            await Stream().run(self.server, body, hang_up_after=rng.randrange(1, 6))
            self.count("hung up")
            return
        elif kind < 10:
            found = await post(self.server, "/v1/chat/completions", body)
            self.same((model, question, seed, body["max_tokens"]), found["choices"][0]["message"]["content"])
        else:
            stream = await Stream().run(self.server, body)
            assert stream.is_done and stream.finish in ("stop", "length"), stream.finish
            self.same((model, question, seed, body["max_tokens"]), stream.text)
        self.count("answered")

    def same(self, key, answer):
        assert self.answers.setdefault(key, answer) == answer, f"{key}: {answer!r} is not {self.answers[key]!r}"

    async def watch(self):
        while time.monotonic() < self.end:
            self.memory.append(self.server.memory())
            await asyncio.sleep(1)


async def run(server, arguments):
    models = [model["id"] for model in (await get(server, "/v1/models"))["data"]]
    load = Load(server, models, arguments.seconds)
    await asyncio.gather(load.watch(), *(load.client(number) for number in range(arguments.clients)))
    for needed in ["answered", "hung up", "400", "404"]:
        assert load.counts.get(needed), f"no request was {needed}: {load.counts}"
    # The first quarter warms up.
    quarter = len(load.memory) // 4
    early, late = max(load.memory[quarter : 2 * quarter + 1]), max(load.memory[-quarter - 1 :])
    print(f"{arguments.clients} clients, {arguments.seconds} s: {load.counts}; memory {early:.0f} MiB, at the end {late:.0f}")
    # In the first minute, longer and longer conversations fill the cache, which may have this much (SmolLM2: 23 KiB a token
    # in half precision; a sequence's memory grows by a half).
    assert late < load.memory[0] + 1.5 * 8 * 1024 * 23 / 1024 + 64, f"more memory than the cache may have: {load.memory}"
    if arguments.seconds >= 120:
        assert late < 1.05 * early + 8, f"the memory grows: {load.memory}"
    # Whoever hung up has freed its place: one more client is served at once.
    stream = await Stream().run(server, chat(models[0], QUESTIONS[0], 8))
    assert stream.is_done


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--serve", required=True, help="the example `serve`, built")
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    adapters = [part for adapter in arguments.adapter for part in ("--adapter", adapter)]
    with Server(arguments.serve, *adapters, "--queue", 64, "--context", 1024) as server:
        asyncio.run(run(server, arguments))
        status = server.stop()
    assert status == 0, f"the server ended with {status}"


if __name__ == "__main__":
    main()
