// Uses the page of `foehn serve` in headless Chromium, as a person would: with a mock of the server, or a real one.
//
// In all of it, nothing may stand in the console but what a scene expects, nothing may break the content security policy,
// and nothing may be asked from elsewhere. There are no pauses: everything is waited for. At the end, faults are planted
// in copies of the page, and the scenes must find them.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    browser: { type: "string" }, peers: { type: "string" }, url: { type: "string" }, pictures: { type: "string" },
    only: { type: "string" },
  },
});
const here = path.dirname(fileURLToPath(import.meta.url));
const { Mock, gate, pieces, INFO } = createRequire(import.meta.url)("./mock.js");
const peers = createRequire(path.join(path.resolve(options.peers), "package.json"));
const { chromium } = peers("playwright-core");
const axe = (() => {
  try {
    return readFileSync(peers.resolve("axe-core/axe.min.js"), "utf8");
  } catch {
    return null;
  }
})();

/** What looks at the pages of reports looks at this one too. It does not know hidden parts and code that scrolls, and an
    app has scripts, a form and a link to elsewhere. */
const folded = "const folded = (e) => {";
const look = readFileSync(path.join(here, "../page/look.js"), "utf8").replace(folded, `${folded} if (!e.checkVisibility() || e.matches('pre > code')) return true;`);
assert(look.includes("pre > code"), "look.js is not as expected");
const FINE = [/^has no place here: <(script|form|link)/, /^a link that leads nowhere: <a class=""> The report/];

const HOSTILE = `<img src=x onerror=alert(1)>"'&</script><script>alert(2)</script>\x1b[31m\u202e\x9b${"w".repeat(400)}`;
const WIDE = { width: 1200, height: 900 };
const NARROW = { width: 400, height: 800 };

/** Waits for something on this side, such as a request that arrives. */
async function until(condition, what, patience) {
  const end = Date.now() + patience;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A page in use. */
class Scene {
  constructor(mock, page, patience) {
    Object.assign(this, { mock, page, patience, said: [], expected: [] });
  }

  get = (selector) => this.page.locator(selector);
  button = (name) => this.page.getByRole("button", { name, exact: true });
  see = (selector) => this.get(selector).first().waitFor();
  until = (condition, what) => until(condition, what, this.patience);
  /** Waits until a visible element has a text. */
  text = (selector, text) => this.page.locator(`${selector}:visible`, { hasText: text }).first().waitFor();
  open = (name) => this.page.getByRole("link", { name, exact: true }).click();
  ready = () => this.text("#status", /^Ready$/);
  /** All answers of the view are whole. */
  rest = () => this.page.waitForFunction(() => document.querySelector("#send").textContent === "Send");
  answers = () => this.get(".answer:visible .text").allInnerTexts();
  heard = (text) => this.page.waitForFunction((text) => document.querySelector("#said").textContent.includes(text), text);

  async type(question) {
    await this.get("#question").fill(question);
    await this.get("#question").press("Enter");
  }

  async ask(question) {
    const before = this.mock?.asked.length;
    await this.type(question);
    if (this.mock) await this.until(() => this.mock.asked.length > before, "the request");
    await this.rest();
  }

  /** Something that the browser says is expected, such as a refused connection. */
  expect(...patterns) {
    this.expected.push(...patterns);
  }

  async set(name, value) {
    await this.button("Settings").click();
    await this.get(name).fill(String(value));
    await this.button("Done").click();
  }
}

/** The scenes of the mock: what is done, and what must be true then. */
const SCENES = {
  async chat(s) {
    const door = gate();
    s.mock.answer = () => ["The sea ", "gle", door.opened, "ams."];
    await s.get("#question").pressSequentially("What is");
    await s.get("#question").press("Shift+Enter");
    await s.get("#question").pressSequentially("the sea?");
    await s.get("#question").press("Enter");
    await s.text(".text.growing", "The sea gle");
    assert.equal(await s.get(".answer:visible").getAttribute("aria-busy"), "true");
    assert.equal(await s.get("#said").innerText(), "", "a growing answer is not read aloud");
    assert.equal(await s.get("#question").inputValue(), "");
    door.open();
    await s.rest();
    assert.deepEqual(await s.answers(), ["The sea gleams."]);
    await s.heard("senses: The sea gleams.");
    assert.equal(await s.get("#said p").count(), 1, "an answer is read aloud once");
    await s.text(".facts", /^3 tokens · .*tokens a second · seed \d+Copy$/);
    await s.text("#used", /^\d+ of 8,192 tokens used$/);
    assert.equal(await s.get(".question").innerText(), "What is\nthe sea?");
    const [first] = s.mock.asked;
    const { temperature, max_tokens, stream, stream_options, seed, model } = first;
    assert.deepEqual({ temperature, max_tokens, stream, stream_options, model },
      { temperature: 0.699999988, max_tokens: 512, stream: true, stream_options: { include_usage: true }, model: "senses" });
    assert(Number.isSafeInteger(seed) && seed >= 0);
    assert.deepEqual(first.messages, [{ role: "user", content: "What is\nthe sea?" }]);
    await s.ask("And then?");
    assert.deepEqual(s.mock.asked[1].messages.map(({ role, content }) => `${role}: ${content}`),
      ["user: What is\nthe sea?", "assistant: The sea gleams.", "user: And then?"]);
    s.mock.reason = "length";
    await s.ask("More");
    await s.text(".end", "the longest answer that the settings allow");
  },

  async stop(s) {
    const door = gate();
    s.mock.answer = () => ["Once upon", door.opened, " never"];
    await s.type("Tell me a story");
    await s.text(".text.growing", "Once upon");
    await s.button("Stop").click();
    await s.until(() => s.mock.aborted === 1, "the connection to be closed");
    await s.text(".end", "You stopped this answer.");
    await s.rest();
    assert.deepEqual(await s.answers(), ["Once upon"]);
    await s.type("Another");
    await s.page.waitForFunction(() => document.querySelectorAll(".turn .text.growing > p").length === 1);
    await s.page.keyboard.press("Escape");
    await s.until(() => s.mock.aborted === 2, "the second connection to be closed");
    await s.rest();
    door.open();
  },

  async again(s) {
    await s.ask("One");
    await s.button("Try again").click();
    await s.until(() => s.mock.asked.length === 2, "the second request");
    await s.rest();
    assert.notEqual(s.mock.asked[0].seed, s.mock.asked[1].seed);
    assert.deepEqual(s.mock.asked[0].messages, s.mock.asked[1].messages);
    assert.equal(await s.get(".turn:visible").count(), 1);
    await s.ask("Two");
    await s.button("Change question").click();
    assert.equal(await s.get("#question").inputValue(), "Two");
    await s.page.keyboard.press("Escape");
    assert.equal(await s.get("#question").inputValue(), "");
    await s.button("Change question").click();
    await s.ask("Three");
    assert.deepEqual(await s.get(".question").allInnerTexts(), ["One", "Three"]);
    assert(!JSON.stringify(s.mock.asked.at(-1).messages).includes("Two"));
    await s.button("Clear").click();
    assert.equal(await s.get(".turn:visible").count(), 0);
    await s.button("Undo clear").click();
    assert.deepEqual(await s.get(".question").allInnerTexts(), ["One", "Three"]);
    await s.button("Clear").click();
    await s.ask("Four");
    assert.deepEqual(s.mock.asked.at(-1).messages, [{ role: "user", content: "Four" }]);
  },

  async copy(s) {
    await s.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    s.mock.answer = () => ["A\n\n```\ncode\n```\n"];
    await s.ask("Copy this");
    await s.button("Copy the answer of senses").click();
    await s.heard("Copied.");
    assert.equal(await s.page.evaluate(() => navigator.clipboard.readText()), "A\n\n```\ncode\n```\n");
  },

  async settings(s) {
    await s.button("Settings").click();
    for (const name of ["temperature", "top_p", "min_p", "top_k", "repetition_penalty", "max_tokens"]) {
      const hint = await s.get(`#set-${name}`).getAttribute("aria-describedby");
      assert.match(await s.get(`#${hint}`).innerText(), /^[A-Z][^.]+\.$/, `${name} has one sentence`);
    }
    assert.equal(await s.get("#set-temperature").inputValue(), "0.7");
    await s.get("#set-temperature").fill("1.25");
    await s.get("#set-max_tokens").fill("64");
    await s.get("#set-top_k").fill("-3");
    await s.get("#system").fill("Be brief.");
    await s.button("Roll").click();
    const seed = Number(await s.get("#seed").inputValue());
    await s.page.keyboard.press("Escape");
    await s.text("#summary", `temperature 1.25 · up to 64 tokens · seed ${seed}`);
    await s.ask("Hello");
    const { messages, temperature, max_tokens, top_k, ...asked } = s.mock.asked[0];
    assert.deepEqual([temperature, max_tokens, top_k, asked.seed], [1.25, 64, 0, seed]);
    assert.deepEqual(messages[0], { role: "system", content: "Be brief." });
    await s.button("Settings").click();
    await s.button("Back to the model’s own settings").click();
    assert.equal(await s.get("#set-temperature").inputValue(), "0.7");
    assert.equal(await s.get("#seed").inputValue(), "");
    await s.button("Done").click();
    await s.ask("Hello");
    assert.deepEqual([s.mock.asked[1].temperature, s.mock.asked[1].max_tokens], [0.699999988, 512]);
  },

  async compare(s) {
    await s.open("Compare");
    const door = gate();
    s.mock.answer = ({ model }) => [`I am ${model}`, door.opened, "."];
    await s.type("Who are you?");
    // Both grow at the same time: neither goes on before the door is opened.
    await s.page.waitForFunction(() => document.querySelectorAll(".text.growing > p").length === 2);
    door.open();
    await s.rest();
    const [first, second] = s.mock.asked;
    assert.deepEqual([first.model, second.model].sort(), ["mistral-7b-instruct", "senses"]);
    assert.equal(first.seed, second.seed, "both get the same seed");
    assert.deepEqual(await s.answers(), ["I am mistral-7b-instruct.", "I am senses."]);
    const boxes = () => Promise.all([0, 1].map((at) => s.get(".answer:visible").nth(at).boundingBox()));
    const [left, right] = await boxes();
    assert(Math.abs(left.y - right.y) < 2 && right.x > left.x + left.width, "side by side");
    await s.ask("And what else?");
    for (const { model, messages, seed } of s.mock.asked.slice(2)) {
      assert.equal(messages[1].content, `I am ${model}.`, "each model has its own conversation");
      assert.equal(seed, s.mock.asked[3].seed);
    }
    await s.button("Try again").click();
    await s.until(() => s.mock.asked.length === 6, "both requests");
    await s.rest();
    assert.equal(s.mock.asked[4].seed, s.mock.asked[5].seed);
    assert.notEqual(s.mock.asked[4].seed, s.mock.asked[3].seed);
    await s.page.setViewportSize(NARROW);
    const [above, below] = await boxes();
    assert(below.y >= above.y + above.height && Math.abs(below.x - above.x) < 2, "one above the other");
    await s.page.getByLabel("First model").selectOption("senses");
    await s.ask("Two of a kind?");
    assert.deepEqual(s.mock.asked.slice(6).map(({ model }) => model), ["senses", "senses"]);
    await s.open("Chat");
    assert.equal(await s.get(".turn:visible").count(), 0, "the chat is another conversation");
  },

  async tint(s) {
    const door = gate();
    s.mock.answer = () => ["I SEE the sea, unseeing; Gru\u0308n. ```\n\n```\nsee\n```\n\nThe CAFE\u0301 hums, hum-hum, see", door.opened, "ming."];
    await s.type("Senses");
    await s.text(".growing", "hum-hum, see");
    const marks = () => s.get(".text mark").allInnerTexts();
    assert.deepEqual(await marks(), ["SEE", "Grün", "CAFÉ", "hum", "hum"], "a word that may grow is not tinted");
    door.open();
    await s.rest();
    assert.deepEqual(await marks(), ["SEE", "Grün", "CAFÉ", "hum", "hum"]);
    assert.deepEqual(await s.get(".counts li:visible").allInnerTexts(), ["Visual 2", "Auditory 2", "Gustatory 1"]);
    assert.equal(await s.get(".text mark").first().getAttribute("title"), "Visual");
    assert.deepEqual(await s.get("#legend mark").allInnerTexts(), INFO.lexicon.map(({ name }) => name));
    const styles = await s.get("#legend mark").evaluateAll((all) => all.map((e) => getComputedStyle(e).textDecorationStyle));
    assert.equal(new Set(styles).size, 5, "the lists differ without colour");
    await s.page.getByLabel("Show the words of").uncheck();
    assert.equal(await s.get(".text mark, .counts li:visible").count(), 0);
    await s.page.reload();
    await s.ready();
    assert.equal(await s.get(".text mark").count(), 0, "the switch is kept");
  },

  async key(s) {
    s.expect(/401/);
    s.mock.key = "secret";
    await s.page.reload();
    await s.text("#status", "Key needed");
    await s.page.waitForFunction(() => document.activeElement.id === "key");
    await s.page.keyboard.type("wrong");
    await s.page.keyboard.press("Enter");
    await s.text("#notice", "did not accept this key");
    await s.page.keyboard.type("secret");
    await s.page.keyboard.press("Enter");
    await s.ready();
    assert.equal(await s.get("#notice:visible").count(), 0);
    await s.ask("Hello");
    // The server has another key now: the question is asked again when that is known.
    s.mock.key = "other";
    await s.type("Still there?");
    await s.text("#status", "Key needed");
    await s.get("#key").fill("other");
    await s.button("Use this key").click();
    await s.until(() => s.mock.asked.length === 2, "the question to be asked again");
    await s.rest();
    assert.equal(await s.get(".turn:visible").count(), 2);
    const stores = await s.page.evaluate(() => [JSON.stringify(localStorage), document.cookie, sessionStorage.getItem("foehn.key")]);
    assert.deepEqual(stores, ["{}", "", "other"]);
    assert(!s.page.url().includes("other"));
    await s.open("Training");
    const [file] = await Promise.all([s.page.waitForEvent("download"), s.page.getByRole("link", { name: "The report" }).click()]);
    assert.match(readFileSync(await file.path(), "utf8"), /The report/);
  },

  async refusals(s) {
    s.expect(/429|400|503|404|500/);
    s.mock.refusal = { status: 429, error: { message: "full", type: "rate_limit_error", code: "queue_full" }, headers: { "Retry-After": "7" } };
    await s.ask("One");
    await s.text(".end", "The server is busy: many questions are waiting. Try again in 7 seconds.");
    await s.heard("The server is busy");
    s.mock.refusal = { status: 400, error: { message: "too long", type: "invalid_request_error", code: "context_length_exceeded" } };
    await s.button("Try again").click();
    await s.text(".end", "too long for the model. It can read 8,192 tokens. Clear it");
    s.mock.refusal = { status: 500, error: { message: "it broke", type: "server_error", code: null } };
    await s.button("Try again").click();
    await s.text(".end", "The server could not answer: it broke");
    s.mock.refusal = null;
    await s.ask("Two");
    assert.deepEqual(s.mock.asked.at(-1).messages, [{ role: "user", content: "Two" }], "a question without an answer is left out");
    s.mock.draining = true;
    await s.ask("Three");
    await s.text("#notice", "The server is closing");
    s.mock.draining = false;
    await s.ready();
    await s.button("Try again").click();
    await s.page.waitForFunction(() => [...document.querySelectorAll(".text")].at(-1).textContent);
  },

  async reconnect(s) {
    s.expect(/ERR_/);
    s.mock.answer = () => ["Half an", new Promise(() => {})];
    await s.type("Will you stay?");
    await s.text(".growing", "Half an");
    await s.mock.stop();
    await s.text(".end", "Cut off");
    await s.text("#status", "Not reached");
    await s.heard("The server cannot be reached");
    await s.text("#notice", /Next try in 2 seconds|Next try in 4 seconds/);
    assert.deepEqual(await s.answers(), ["Half an"]);
    await s.type("Too early");
    assert.equal(await s.get("#question").inputValue(), "Too early", "a question is not lost");
    await s.mock.start();
    await s.ready();
    await s.heard("The server is back.");
    assert.equal(await s.get("#notice:visible").count(), 0);
    s.mock.answer = () => ["Whole."];
    await s.ask("Too early");
    assert.deepEqual(await s.answers(), ["Half an", "Whole."]);
    // A stream that just ends, and a connection that breaks before the first word.
    s.mock.reason = null;
    await s.ask("Ends");
    await s.page.waitForFunction(() => [...document.querySelectorAll(".end:not([hidden])")].filter((e) => e.textContent.startsWith("Cut off")).length === 2);
    s.mock.answer = () => [new Error("hangs up")];
    await s.ask("Hangs up");
    await s.page.waitForFunction(() => document.querySelectorAll(".end:not([hidden])").length === 3);
  },

  async reload(s) {
    await s.ask("First");
    const [before] = await s.answers();
    const door = gate();
    s.mock.answer = () => ["Only a part", door.opened];
    await s.type("Second");
    await s.text(".growing", "Only a part");
    await s.get("#question").fill("a draft");
    await s.page.reload();
    await s.ready();
    door.open();
    assert.deepEqual(await s.answers(), [before, "Only a part"]);
    await s.text(".end", "Cut off");
    assert.equal(await s.get("#question").inputValue(), "a draft");
    assert(!(await s.page.evaluate(() => JSON.stringify(localStorage))).includes("First"));
    s.mock.answer = () => ["Fine."];
    await s.ask("Third");
    assert.equal(s.mock.asked.at(-1).messages.length, 5);
  },

  async keyboard(s) {
    const press = (key) => s.page.keyboard.press(key);
    const active = () => s.page.evaluate(() => {
      const e = document.activeElement;
      const { outlineStyle, boxShadow } = getComputedStyle(e);
      const around = e.closest(".box") ? getComputedStyle(e.closest(".box")).boxShadow : "none";
      return { name: e.id || e.textContent.trim() || e.value, seen: outlineStyle !== "none" || boxShadow !== "none" || around !== "none", size: e.getBoundingClientRect().width };
    });
    /** Presses Tab until an element has the focus; all on the way must show it. */
    const tabTo = async (name) => {
      for (let step = 0; step < 40; step += 1) {
        await press("Tab");
        const found = await active();
        if (found.name === "") continue;
        assert(found.seen && found.size > 1, `the focus on ${found.name} is visible`);
        if (name.test(found.name)) return;
      }
      throw new Error(`Tab does not reach ${name}`);
    };
    await s.page.reload();
    await s.ready();
    await press("Tab");
    assert.equal((await active()).name, "Skip to the conversation");
    await press("Enter");
    await tabTo(/^question$/);
    await s.page.keyboard.type("By keyboard");
    await press("Enter");
    await s.until(() => s.mock.asked.length === 1, "the request");
    await s.rest();
    assert.equal((await active()).name, "question", "the focus stays");
    await s.page.reload();
    await s.ready();
    for (const name of [/^Chat$/, /^Compare$/, /^Training$/, /^theme$/, /^settings-open$/, /^tint$/, /mistral/, /^Copy$/, /^again$/, /^edit$/, /^clear$/, /^question$/, /^send$/]) await tabTo(name);
    await s.page.reload();
    await s.ready();
    await tabTo(/^theme$/);
    await press("Enter");
    assert.equal(await s.page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await tabTo(/^settings-open$/);
    await press("Enter");
    await tabTo(/^set-temperature$/);
    await press("ArrowRight");
    await s.text("#set-temperature-value", "0.75 (changed)");
    await tabTo(/^dice$/);
    await press("Escape");
    assert.equal((await active()).name, "settings-open", "the focus comes back");
    await s.page.reload();
    await s.ready();
    await tabTo(/^Compare$/);
    await press("Enter");
    await s.text("h2", "One question, two answers");
    await tabTo(/^question$/);
    await s.page.keyboard.type("Both");
    await press("Enter");
    await s.until(() => s.mock.asked.length === 3, "both requests");
    await s.rest();
  },

  async hostile(s) {
    s.expect(/400/);
    s.mock.info = structuredClone(INFO);
    s.mock.info.models[1].id = `senses${HOSTILE}`;
    s.mock.info.lexicon[0].name = `Visual${HOSTILE}`;
    s.mock.answer = () => pieces(`See ${HOSTILE}\n\n\`\`\`html\n${HOSTILE}\n\`\`\`\n\n${"\n".repeat(50)}**Bold** see`);
    await s.page.reload();
    await s.ready();
    await s.ask(HOSTILE);
    s.mock.refusal = { status: 400, error: { message: HOSTILE, type: HOSTILE, code: "x" } };
    await s.ask("Refused");
    for (const size of [NARROW, WIDE]) {
      await s.page.setViewportSize(size);
      await looks(s, `hostile at ${size.width}`);
    }
    for (const view of ["Compare", "Training"]) {
      await s.open(view);
      await s.page.setViewportSize(NARROW);
      await looks(s, `hostile, ${view}`);
    }
    await s.open("Chat");
    assert.equal(await s.get("img, iframe, script:not([type=module])").count(), 0);
    const [answer] = await s.answers();
    assert(answer.includes("\\u{1b}[31m\\u{202e}\\u{9b}"), "control characters are visible");
    assert(answer.includes("<img src=x onerror=alert(1)>"));
    assert.equal(s.mock.asked[0].messages.at(-1).content, HOSTILE, "the model gets what was written");
  },

  async blocks(s) {
    s.mock.answer = () => ["One\nline two\n\n\nThree\n```rust\nfn main() {\n\n    // ``` inside\n}\n```\nAfter `inline`\n~~~~\n~~~\n", "~~~~\n```\nopen"];
    await s.ask("Code");
    const found = await s.get(".text:visible > *").evaluateAll((all) => all.map((e) => `${e.tagName} ${e.textContent}`));
    assert.deepEqual(found, ["P One\nline two", "P Three", "PRE fn main() {\n\n    // ``` inside\n}", "P After `inline`", "PRE ~~~", "PRE open"]);
  },

  async training(s) {
    await s.open("Training");
    const label = await s.get("figure svg[role=img]").getAttribute("aria-label");
    assert.match(label, /^Loss over 120 steps: training loss from 2\.47 to 0\.\d+, validation loss from 1\.\d+ to 1\.\d+$/);
    await s.text("figcaption", /lowest, 1\.0\d+, at step \d+ and rose afterwards/);
    await s.get("summary").click();
    assert.equal(await s.get("tbody tr:visible").count(), 120);
    const [tab] = await Promise.all([s.page.waitForEvent("popup"), s.page.getByRole("link", { name: "The report" }).click()]);
    await tab.getByRole("heading", { name: "The report" }).waitFor();
    await tab.close();
    s.mock.info = { ...structuredClone(INFO), lexicon: null };
    s.mock.info.models.forEach((model) => Object.assign(model, { run: null, report: false }));
    await s.page.reload();
    await s.text("#run-body", "The server knows no training run");
    await s.open("Chat");
    await s.ask("No lexicon");
    assert.equal(await s.get("#legend:visible, mark:visible").count(), 0);
  },

  async looks(s) {
    s.expect(/429|401|ERR_/);
    const all = async (name) => {
      for (const size of [WIDE, NARROW]) {
        for (const colorScheme of ["light", "dark"]) {
          await s.page.setViewportSize(size);
          await s.page.emulateMedia({ colorScheme });
          await s.page.evaluate(() => new Promise(requestAnimationFrame));
          await looks(s, `${name}-${size.width}-${colorScheme}`);
        }
      }
      await s.page.setViewportSize(WIDE);
    };
    await all("empty");
    await s.ask("Describe a walk along the sea.");
    s.mock.answer = () => ["Boil it, warm:\n\n```python\ntea = boil(water, minutes=3)  # and some more words, so that this line is long\n```\n\nThen taste."];
    s.mock.reason = "length";
    await s.ask("And as code?");
    await all("chat");
    s.mock.refusal = { status: 429, error: {} };
    await s.ask("Are you busy?");
    s.mock.refusal = null;
    await s.button("Settings").click();
    await all("settings");
    await s.button("Done").click();
    await s.button("Change question").click();
    await all("editing");
    await s.open("Compare");
    await all("compare-empty");
    s.mock.answer = new Mock().answer;
    s.mock.reason = "stop";
    await s.ask("Describe a walk along the sea.");
    await all("compare");
    const door = gate();
    s.mock.answer = () => ["Still", door.opened];
    await s.type("And at night?");
    await s.page.waitForFunction(() => document.querySelectorAll(".text.growing > p").length === 2);
    await all("growing");
    door.open();
    await s.rest();
    await s.open("Training");
    await s.get("summary").click();
    await all("training");
    await s.open("Chat");
    s.mock.key = "secret";
    await s.type("Hello?");
    await s.text("#status", "Key needed");
    await all("key");
    await s.mock.stop();
    await s.get("#key").fill("secret");
    await s.button("Use this key").click();
    await s.text("#status", "Not reached");
    await all("gone");
    await s.page.evaluate(() => scrollTo(0, 0));
    await s.page.setViewportSize(NARROW);
    await looks(s, "gone-top-400");
    await s.page.setViewportSize(WIDE);
    await s.mock.start();
    await s.ready();
  },

  async motion(s) {
    await s.page.emulateMedia({ reducedMotion: "reduce" });
    const door = gate();
    s.mock.answer = () => ["Still", door.opened];
    await s.type("Move");
    await s.text(".growing", "Still");
    assert.equal(await s.get(".growing > p").evaluate((e) => getComputedStyle(e, "::after").animationName), "none");
    door.open();
    await s.rest();
    await s.page.emulateMedia({ colorScheme: "dark" });
    const shade = () => s.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await shade();
    await s.button("Use light colours").click();
    assert.notEqual(await shade(), dark);
    await s.page.reload();
    await s.ready();
    assert.notEqual(await shade(), dark, "the colours are kept");
  },

  /** A long answer is followed; whoever scrolls up is left in peace. */
  async follow(s) {
    const [first, second] = [gate(), gate()];
    const long = "A paragraph.\n\n".repeat(80);
    s.mock.answer = () => [long, first.opened, long, second.opened, long];
    const end = () => s.page.evaluate(() => innerHeight + scrollY > document.documentElement.scrollHeight - 5);
    await s.type("Long");
    await s.page.waitForFunction(() => document.querySelectorAll(".growing > p").length >= 80);
    await s.until(end, "the page to follow");
    const place = await s.page.evaluate(() => new Promise((done) => {
      addEventListener("scroll", () => done(scrollY), { once: true });
      scrollBy(0, -1500);
    }));
    first.open();
    await s.page.waitForFunction(() => document.querySelectorAll(".growing > p").length >= 160);
    assert.equal(await s.page.evaluate(() => scrollY), place, "it stays where it was scrolled to");
    second.open();
    await s.rest();
  },
};

/** The scenes that need no mock. */
const REAL = {
  async chat(s) {
    await s.type("Say hello in one sentence.");
    await s.page.waitForFunction(() => document.querySelector(".turn .text")?.textContent);
    await s.rest();
    await s.text(".facts", /\d+ tokens?.* · seed \d+Copy$/);
    const asked = s.bodies.at(-1);
    assert(asked.stream && asked.stream_options.include_usage && Number.isSafeInteger(asked.seed));
    assert.equal(await s.get(".end:visible").filter({ hasText: /Cut off|could not/ }).count(), 0);
  },

  async stop(s) {
    await s.set("#set-max_tokens", 4096);
    await s.type("Count from one to a thousand, in words.");
    await s.page.waitForFunction(() => document.querySelector(".turn .text.growing p")?.textContent);
    await s.button("Stop").click();
    await s.rest();
    await s.text(".end", "You stopped this answer.");
    await s.set("#set-max_tokens", 16);
    await s.type("And now say yes.");
    await s.page.waitForFunction(() => document.querySelectorAll(".turn .text p").length > 1);
    await s.rest();
  },

  async compare(s) {
    await s.open("Compare");
    await s.set("#set-max_tokens", 32);
    await s.type("Describe a walk along the sea.");
    await s.page.waitForFunction(() => [...document.querySelectorAll("#compare .text")].filter((e) => e.textContent).length === 2);
    await s.rest();
    const [first, second] = s.bodies.slice(-2);
    assert.equal(first.seed, second.seed);
    assert.equal(s.bodies.length, 2);
    await s.page.reload();
    await s.ready();
    assert.equal((await s.answers()).filter(Boolean).length, 2, "a reload keeps the answers");
  },
};

/** What is changed in a copy of the page, and the scene that must find it. */
const PLANTED = [
  ["a style attribute", "chat", '<main id="main"', '<main style="margin: 0 auto" id="main"'],
  ["an inline handler", "chat", '<main id="main"', '<main onclick="void 0" id="main"'],
  ["a picture from elsewhere", "chat", "<main ", '<img alt="" src="http://127.0.0.1:9/x.png"><main '],
  ["markup that is read", "hostile", "make(\"code\", {}, block.text)", "Object.assign(make(\"code\"), { innerHTML: block.text })"],
  ["control characters", "hostile", "return text.replaceAll(\"\\r\\n\", \"\\n\").replace(steers", "return text.replaceAll(\"\\r\\n\", \"\\n\").replace(/^$/g"],
  ["two seeds", "compare", "seed: turn.seed,", "seed: turn.seed + column,"],
  ["one after the other", "compare", "answers.forEach((_, column) => fill(open, turn, column));", "answers.reduce((before, _, column) => before.then(() => fill(open, turn, column)), Promise.resolve());"],
  ["a shared conversation", "compare", "content: answers[column].text", "content: answers[0].text"],
  ["no stop", "stop", "running.get(answer)?.abort()", "running.get(answer)"],
  ["parts of words", "tint", "/\\p{Alphabetic}+/gu", "/see|hum|café|grün/giu"],
  ["letters of ASCII", "tint", "/\\p{Alphabetic}+/gu", "/[a-z]+/gi"],
  ["a key that stays", "key", "sessionStorage.setItem(KEY, key)", "sessionStorage.setItem(KEY, key), localStorage.setItem(KEY, key)"],
  ["no key", "key", "Authorization: `Bearer ${key}`", "Authorization: `Basic ${key}`"],
  ["no next try", "reconnect", "server.timer = setTimeout(look, server.pause);", ""],
  ["a cut that is not said", "reconnect", "cut: answer.note || \"Cut off: the connection broke here.\"", "cut: \"\""],
  ["no memory", "reload", "function keep() {", "function keep() {\n  return;"],
  ["every token read aloud", "chat", "      soon(answer);", "      soon(answer);\n      say(text);"],
  ["no visible focus", "keyboard", ":focus-visible { outline: 3px", ":focus-visible { outline: 0px none; --x: 3px"],
  ["a focus that is lost", "keyboard", "at(\"settings\").showModal();", "at(\"settings\").show();"],
  ["faint letters", "looks", "--soft: light-dark(#5d554b", "--soft: light-dark(#b5ada3"],
  ["faint letters in the dark", "looks", "#2a251f); --good", "#8a857f); --good"],
  ["too wide", "looks", ".box { display: flex;", ".box { min-width: 500px; display: flex;"],
  ["no label", "looks", '<label class="quiet" for="question">Your question</label>', "", "needs axe"],
  ["motion", "motion", "@media (prefers-reduced-motion: reduce)", "@media (prefers-reduced-motion: never)"],
  ["a page that jumps", "follow", "addEventListener(\"scroll\", () => (follow", "addEventListener(\"scrolled\", () => (follow"],
];

const seen = { looks: 0, least: 21 };

/** Looks at what is shown: with look.js and axe. */
async function looks(s, name) {
  const found = JSON.parse(await s.page.evaluate(look));
  const faults = found.faults.filter((fault) => !FINE.some((fine) => fine.test(fault)));
  seen.looks += 1;
  seen.least = Math.min(seen.least, found.least);
  // What axe finds seldom depends on the width, and it takes a second.
  if (axe && !/400-light|400$/.test(name)) {
    await s.page.evaluate(axe);
    const { violations } = await s.page.evaluate(() => axe.run());
    faults.push(...violations.map(({ id, nodes }) => `axe, ${id}: ${nodes[0].html.slice(0, 160)} ${nodes[0].failureSummary.slice(0, 200)}`));
  }
  if (options.pictures && !s.planted) {
    mkdirSync(options.pictures, { recursive: true });
    await s.page.screenshot({ path: path.join(options.pictures, `${name.replaceAll(/\W+/g, "-")}.png`) });
  }
  assert.deepEqual(faults, [], name);
}

/** Plays a scene; fails with what went wrong. */
async function play(browser, scene, { page: text, url, patience, planted = false }) {
  const mock = url ? null : await Object.assign(new Mock(), text && { page: text }).start();
  const address = new URL(url ?? mock.url);
  // No scene waits for longer, whatever it waits for.
  let timer;
  const lateness = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("the scene does not end")), 20 * patience)));
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light", acceptDownloads: true });
  try {
    context.setDefaultTimeout(patience);
    const page = await context.newPage();
    const s = Object.assign(new Scene(mock, page, patience), { planted, bodies: [] });
    page.on("console", (message) => s.said.push(message.text()));
    page.on("pageerror", (error) => s.said.push(`${error}`));
    page.on("dialog", (dialog) => {
      s.said.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    context.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== address.origin && !["data:", "blob:"].includes(protocol)) s.said.push(`requested: ${request.url()}`);
      if (request.method() === "POST") s.bodies.push(request.postDataJSON());
    });
    await page.exposeFunction("broken", (what) => s.said.push(`breaks the policy: ${what}`));
    await page.addInitScript((key) => {
      addEventListener("securitypolicyviolation", (event) => window.broken(`${event.violatedDirective} ${event.sample}`));
      if (key) sessionStorage.setItem("foehn.key", key);
    }, url ? process.env.FOEHN_API_KEY : undefined);
    await page.goto(address.href);
    await s.ready();
    await Promise.race([scene(s), lateness]);
    const unexpected = s.said.filter((line) => !s.expected.some((pattern) => pattern.test(line)));
    assert.deepEqual(unexpected, [], "nothing is said that is not expected");
  } finally {
    clearTimeout(timer);
    await context.close();
    if (mock?.server.listening) await mock.stop();
  }
}

const start = performance.now();
let failed = 0;
const browser = await chromium.launch({ executablePath: options.browser, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const scenes = Object.entries(options.url ? REAL : SCENES).filter(([name]) => !options.only || options.only.split(",").includes(name));
  for (const [name, scene] of scenes) {
    const fault = await play(browser, scene, options.url ? { url: options.url, patience: 120000 } : { patience: 10000 }).catch((error) => error);
    console.log(fault ? `${name}: ${fault.message}` : `${name}: well`);
    if (fault) console.log(fault.stack.split("\n").filter((line) => line.includes("check.mjs")).slice(0, 3).join("\n"));
    failed += fault ? 1 : 0;
  }
  if (!options.url) console.log(`looked ${seen.looks} times${axe ? ", with axe too" : "; axe is not there"}; contrast from ${seen.least.toFixed(2)}`);
  if (!options.url && (!options.only || options.only === "planted")) {
    const { page: whole } = new Mock();
    let found = 0;
    const planted = PLANTED.filter(([, , , , needs]) => axe || !needs);
    for (const [name, scene, from, to] of planted) {
      assert(whole.split(from).length >= 2, `${name}: ${from} is not in the page`);
      const fault = await play(browser, SCENES[scene], { page: whole.replace(from, () => to), patience: 3000, planted: true }).catch((error) => error);
      if (fault) found += 1;
      else console.log(`planted, and not found: ${name}`);
      if (options.only && fault) console.log(`${name}: ${fault.message.slice(0, 300).replaceAll("\n", " ")}`);
    }
    console.log(`${found} of ${planted.length} planted faults found`);
    failed += planted.length - found;
  }
} finally {
  await browser.close();
}
console.log(`${failed} faults in ${((performance.now() - start) / 1000).toFixed(0)} s`);
process.exitCode = failed ? 1 : 0;
