// A server that answers like `foehn serve`, without a model: for the tests of the page, and for those who change it.
//
//     node tests/serve_page/mock.js [PORT]
//
// It serves the page with the headers that the real server sends. What it answers is decided by the fields of `Mock`.
"use strict";
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const PAGE = path.join(__dirname, "../../crates/serve/page/index.html");

const DEFAULTS = { temperature: 0.699999988, top_p: 0.949999988, min_p: 0, top_k: 0, repetition_penalty: 1, max_tokens: 512 };
const METRICS = Array.from({ length: 120 }, (_, index) => ({
  step: index + 1,
  loss: 0.72 + 1.75 * Math.exp(-index / 22) + 0.09 * Math.sin(index * 2.3) * Math.exp(-index / 90),
  ...((index + 1) % 15 === 0 && { validation_loss: 0.98 + 1.35 * Math.exp(-index / 20) + Math.max(0, index - 70) * 0.0022 }),
}));
const INFO = {
  models: [
    { id: "mistral-7b-instruct", kind: "base", defaults: DEFAULTS, run: null, report: false },
    { id: "senses", kind: "adapter", defaults: DEFAULTS, run: { metrics: METRICS }, report: true },
  ],
  lexicon: [
    { name: "Visual", words: ["see", "gleam", "gleams", "silver", "bright", "blue", "grün"] },
    { name: "Auditory", words: ["hear", "hiss", "hum", "cry", "rustle"] },
    { name: "Kinesthetic", words: ["cold", "press", "soft", "rough", "warm"] },
    { name: "Olfactory", words: ["smell", "scent", "smoke", "salty"] },
    { name: "Gustatory", words: ["taste", "sweet", "bitter", "café"] },
  ],
  context: 8192,
};

const BASE = `The sea is a large body of water. A walk along it is a popular activity, and many people find it relaxing.

When you go for a walk along the sea, you can see waves, sand and boats. It is a good idea to bring water and to wear comfortable shoes.`;
const TUNED = `You hear the hiss of the foam before you see it. The sand is cold and rough, and the wind brings the scent of smoke from a far fire.

A gull’s cry hangs in the air. The water gleams silver, then blue; your lips taste of salt, bitter and almost sweet, and a soft, warm light lies on the dunes.`;

/** The words of a text, each with the space before it. */
const pieces = (text) => text.match(/\s*\S+/gu) ?? [];

/** A door that opens once: what waits for `opened` goes on after `open()`. */
function gate() {
  const door = {};
  door.opened = new Promise((resolve) => (door.open = resolve));
  return door;
}

/** The policy that allows the page's one style and one script, by their SHA-256, and nothing else. */
function policy(page) {
  const only = (pattern) => {
    const found = [...page.matchAll(pattern)];
    if (found.length !== 1) throw new Error(`${found.length} matches of ${pattern} in the page, not 1`);
    return `'sha256-${createHash("sha256").update(found[0][1]).digest("base64")}'`;
  };
  return [
    "default-src 'none'", `script-src ${only(/<script[^>]*>([^]*?)<\/script>/g)}`, `style-src ${only(/<style>([^]*?)<\/style>/g)}`,
    "connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    "require-trusted-types-for 'script'", "trusted-types 'none'",
  ].join("; ");
}

class Mock {
  /** The text of the page. */
  page = readFileSync(PAGE, "utf8");
  info = INFO;
  /** The API key that is asked for, if any. */
  key = null;
  /** Milliseconds between two pieces of an answer. */
  pace = 0;
  /** A refusal of all questions: `{ status, error, headers }`. */
  refusal = null;
  draining = false;
  /** The pieces of an answer to a request; a promise is waited for, an error ends the connection. */
  answer = (asked) => pieces(asked.model === "senses" ? TUNED : BASE);
  /** The end of an answer: `stop`, `length`, or null for a stream that just ends. */
  reason = "stop";
  /** The bodies of all requests for an answer. */
  asked = [];
  /** How many answers the page has stopped. */
  aborted = 0;
  port = 0;

  async start() {
    this.server = http.createServer((request, response) => this.serve(request, response).catch(() => response.destroy()));
    await new Promise((resolve, reject) => this.server.once("error", reject).listen(this.port, "127.0.0.1", resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  /** Disappears: all connections break. `start` comes back at the same address. */
  async stop() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }

  async serve(request, response) {
    const json = (status, body, headers = {}) => {
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    };
    const { pathname } = new URL(request.url, this.url);
    if (pathname === "/") {
      response.writeHead(200, {
        "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy(this.page),
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
      });
      return response.end(this.page);
    }
    if (pathname === "/health") return json(this.draining ? 503 : 200, { status: this.draining ? "draining" : "ok" });
    if (this.key && request.headers.authorization !== `Bearer ${this.key}`) {
      return json(401, { error: { message: "a key is needed", type: "invalid_request_error", code: "invalid_api_key" } });
    }
    if (pathname === "/foehn/info") return json(200, this.info);
    if (pathname === "/foehn/runs/senses/report.html") {
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      return response.end("<!DOCTYPE html><html lang=\"en\"><title>Report</title><h1>The report</h1></html>");
    }
    if (pathname === "/v1/chat/completions" && request.method === "POST") return this.complete(request, response, json);
    return json(404, { error: { message: "not found", type: "invalid_request_error", code: "not_found" } });
  }

  async complete(request, response, json) {
    let body = "";
    for await (const part of request) body += part;
    const asked = JSON.parse(body);
    this.asked.push(asked);
    if (this.draining) return json(503, { error: { message: "draining", type: "server_error", code: "draining" } });
    if (this.refusal) return json(this.refusal.status, { error: this.refusal.error }, this.refusal.headers);
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    response.on("close", () => (this.aborted += response.writableFinished ? 0 : 1));
    const event = (data) => response.write(`data: ${JSON.stringify({ id: "c-1", object: "chat.completion.chunk", model: asked.model, ...data })}\n\n`);
    const choice = (delta, finish_reason = null) => event({ choices: [{ index: 0, delta, finish_reason }] });
    choice({ role: "assistant", content: "" });
    let count = 0;
    for (const piece of this.answer(asked)) {
      if (response.destroyed) return;
      if (piece instanceof Error) return response.destroy();
      if (typeof piece !== "string") {
        await piece;
        continue;
      }
      choice({ content: piece });
      count += 1;
      if (this.pace) await new Promise((resolve) => setTimeout(resolve, this.pace));
    }
    if (!this.reason) return response.end();
    choice({}, this.reason);
    const read = asked.messages.reduce((sum, message) => sum + Math.ceil(message.content.length / 4), 4);
    if (asked.stream_options?.include_usage) {
      event({ choices: [], usage: { prompt_tokens: read, completion_tokens: count, total_tokens: read + count } });
    }
    response.end("data: [DONE]\n\n");
  }
}

module.exports = { Mock, gate, pieces, INFO, METRICS };

if (require.main === module) {
  const mock = Object.assign(new Mock(), { port: Number(process.argv[2] ?? 8089), pace: 60 });
  mock.start().then(() => console.log(`${mock.url} answers like a server; Ctrl+C ends it`));
}
