"""A client of OpenAI's interface with Python's standard library alone, and a server to talk to."""

import asyncio
import json
import signal
import subprocess
import time


class Server:
    """The example `serve` as a process of its own, on a free port."""

    def __init__(self, binary, *arguments):
        command = [str(binary), "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            raise SystemExit(f"{' '.join(command)} said {line!r}")
        self.address = line.strip().removeprefix("listening on http://")
        self.host, port = self.address.rsplit(":", 1)
        self.port = int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends it as an operator would, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def memory(self):
        """The memory that it holds now, in MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            lines = [line for line in status if line.startswith("VmRSS:")]
        return int(lines[0].split()[1]) / 1024


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]}")
        self.status = status


async def post(server, path, body, on_line=None):
    """Posts JSON. Without `on_line`, returns the answer's JSON; with it, each line of the stream goes there, and a truthy
    result hangs up."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        chunked, length = False, None
        while (line := (await reader.readline()).strip().lower()) != b"":
            chunked |= line == b"transfer-encoding: chunked"
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if on_line is None or status != 200:
            found = await reader.readexactly(length) if length is not None else await reader.read()
            if status != 200:
                raise Refused(status, found.decode())
            return json.loads(found)
        assert chunked, "a stream has no length"
        buffer = b""
        while (size := int((await reader.readline()).strip() or b"0", 16)) > 0:
            buffer += await reader.readexactly(size + 2)
            buffer = buffer[:-2]
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if line.startswith(b"data: ") and on_line(line[6:]):
                    return None
        return None
    finally:
        writer.close()


async def get(server, path):
    """The JSON at a path."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


class Stream:
    """One streamed answer: its text, and when each piece came."""

    def __init__(self):
        self.text, self.times, self.usage, self.finish, self.is_done = "", [], None, None, False

    async def run(self, server, body, hang_up_after=None):
        self.begun = time.perf_counter()

        def on_line(line):
            if line == b"[DONE]":
                self.is_done = True
                return False
            chunk = json.loads(line)
            if "error" in chunk:
                raise Refused(200, line.decode())
            self.usage = chunk.get("usage") or self.usage
            for choice in chunk["choices"]:
                self.finish = choice["finish_reason"] or self.finish
                if piece := choice["delta"].get("content"):
                    self.text += piece
                    self.times.append(time.perf_counter())
            return hang_up_after is not None and len(self.times) >= hang_up_after

        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        await post(server, "/v1/chat/completions", body, on_line)
        return self

    def first(self):
        """Seconds to the first piece."""
        return self.times[0] - self.begun

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]


def chat(model, question, max_tokens, **more):
    return {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, **more}
