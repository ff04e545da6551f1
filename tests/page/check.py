"""Looks at the pages of reports in headless Chromium with scripts off: as a person would, but every time.

The browser is driven through its DevTools pipe, with Python's standard library alone. Each page is shown at 400 and at
1200 pixels, light and dark, and each time:

- nothing stands in the console, and nothing but the page itself is requested;
- headings are in order; every heading, table, picture and label is visible and has a size;
- nothing is wider than the screen, but inside a box that scrolls, and no text is cut off;
- every text has a contrast of at least 4.5 to what is behind it (WCAG 2.2, 1.4.3), large ones 3;
- pictures have a role and a label, tables a caption.

Beside the reports of this folder, one is made in which every text is hostile: markup, control characters, a word of 400
letters.
"""

import argparse
import base64
import json
import os
import pathlib
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).parent
REPORTS = ["report.json", "three.json"]
# What the page's code reads as a name stays; all other texts of the hostile report are changed.
KEPT = {"better", "outcome", "stop", "by", "kind", "headline"}
HOSTILE = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>\x1b[31m\u202e\x9b" + "w" * 400

LOOK = r"""
(() => {
  const faults = [], wide = document.documentElement.clientWidth;
  const of = (e) => `<${e.tagName.toLowerCase()} class="${e.getAttribute('class') || ''}"> ${(e.textContent || '').trim().slice(0, 40)}`;
  const folded = (e) => {
    for (let at = e.closest('details:not([open])'); at; at = at.parentElement.closest('details:not([open])')) {
      if (!at.querySelector(':scope > summary').contains(e)) return true;
    }
    return false;
  };
  const levels = [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) faults.push('not one h1');
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) faults.push(`h${level} after h${levels[at - 1]}`); });
  for (const e of document.querySelectorAll('h1,h2,h3,h4,table,svg[role],figure,summary,dt,.chip,.turn')) {
    if (folded(e)) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 1 || box.height < 1 || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) faults.push(`not visible: ${of(e)}`);
  }
  if (document.documentElement.scrollWidth > wide) faults.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const e of document.querySelectorAll('body *')) {
    if (folded(e) || e.closest('.scroll table') || e.closest('svg')) continue;
    const box = e.getBoundingClientRect();
    if (box.width && (box.right > wide + 1 || box.left < -1)) faults.push(`out of the screen: ${of(e)}`);
  }
  for (const e of document.querySelectorAll('svg')) {
    if (e.parentElement.closest('svg') || e.getAttribute('aria-hidden')) continue;
    if (e.getAttribute('role') !== 'img' || !(e.getAttribute('aria-label') || '').trim()) faults.push(`a picture without a label: ${of(e.parentElement)}`);
  }
  for (const e of document.querySelectorAll('table')) if (!e.caption) faults.push(`a table without a caption: ${of(e)}`);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size !== ids.length) faults.push('an id stands twice');
  for (const e of document.querySelectorAll('a[href]')) {
    if (!e.getAttribute('href').startsWith('#') || !ids.includes(e.getAttribute('href').slice(1))) faults.push(`a link that leads nowhere: ${of(e)}`);
  }
  for (const e of document.querySelectorAll('script,img,link,iframe,object,embed,form')) faults.push(`has no place here: ${of(e)}`);
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = '#000'; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (front, back) => [0, 1, 2].map((at) => front[at] * front[3] + back[at] * (1 - front[3]));
  const behind = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) { const layer = rgba(getComputedStyle(at).backgroundColor); layers.push(layer); if (layer[3] === 1) break; }
    return layers.reverse().reduce((back, layer) => over(layer, back), [255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let texts = 0, least = 21;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest('svg')) continue;
    const style = getComputedStyle(e), back = behind(e);
    const [a, b] = [light(over(rgba(style.color), back)), light(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    texts += 1; least = Math.min(least, contrast);
    if (contrast < (isLarge ? 3 : 4.5)) faults.push(`contrast ${contrast.toFixed(2)}: ${of(e)}`);
    if (size < 11) faults.push(`letters of ${size} pixels: ${of(e)}`);
  }
  // Marks and whiskers are graphics: a contrast of 3 (WCAG 2.2, 1.4.11).
  for (const e of document.querySelectorAll('.mark,.whisker,.curve,.ideal')) {
    if (folded(e)) continue;
    const style = getComputedStyle(e), back = behind(e.closest('figure'));
    const front = rgba(style.stroke); front[3] *= Number(style.opacity);
    const [a, b] = [light(over(front, back)), light(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 3) faults.push(`a picture's contrast ${contrast.toFixed(2)}: ${e.getAttribute('class')}`);
  }
  return JSON.stringify({ faults: [...new Set(faults)], texts, least, height: document.documentElement.scrollHeight });
})()
"""


class Browser:
    """A headless browser on its DevTools pipe: JSON messages that end in a zero byte, on descriptors 3 and 4."""

    def __init__(self, path, folder):
        to_read, self.out = os.pipe()
        self.into, to_write = os.pipe()
        flags = ["--headless", "--disable-gpu", "--no-sandbox", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                 "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
        # The shell puts the pipe's ends at 3 and 4, whatever numbers they have here.
        command = ["sh", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', path, *flags, "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=[to_read, to_write], stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.last, self.events = b"", 0, []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Network", "Log", "Runtime"]:
            self.call(f"{domain}.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def call(self, method, **parameters):
        """The result of a command; events that come before it are kept."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            found = self.receive()
            if found.get("id") == self.last:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self.events.append(found)

    def receive(self):
        while b"\0" not in self.buffer:
            part = os.read(self.into, 1 << 16)
            if not part:
                raise RuntimeError("the browser ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def wait_for(self, event):
        while not any(found.get("method") == event for found in self.events):
            self.events.append(self.receive())

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait()


def look(browser, page, width, scheme, picture):
    """The faults of a page at a width and in a colour scheme, and a picture of it."""
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait_for("Page.loadEventFired")
    found = browser.call("Runtime.evaluate", expression=LOOK, returnByValue=True)
    if "exceptionDetails" in found:
        raise RuntimeError(found["exceptionDetails"])
    found = json.loads(found["result"]["value"])
    if picture:
        clip = {"x": 0, "y": 0, "width": width, "height": min(found["height"], 16000), "scale": 1}
        shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        picture.write_bytes(base64.b64decode(shot["data"]))
    for event in browser.events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent" and parameters["request"]["url"] != page.as_uri():
            found["faults"].append(f"requested: {parameters['request']['url']}")
        if method in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            found["faults"].append(f"{method}: {json.dumps(parameters)[:200]}")
    return found


def hostile(value, key=""):
    """A report in which every text that is not a name for the program is hostile."""
    if isinstance(value, dict):
        figure = "better" in value
        named = {name + HOSTILE if key in ("hashes", "about", "manifest") else name: inner for name, inner in value.items()}
        return {name: inner if figure and name == "name" else hostile(inner, name) for name, inner in named.items()}
    if isinstance(value, list):
        return [hostile(inner, key) for inner in value]
    return value + HOSTILE if isinstance(value, str) and key not in KEPT else value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--browser", required=True)
    parser.add_argument("--tool", required=True, type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path)
    arguments = parser.parse_args()
    start, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        bad = folder / "hostile.json"
        bad.write_text(json.dumps(hostile(json.loads((HERE / "report.json").read_text()))))
        browser = Browser(arguments.browser, folder / "profile")
        try:
            for report in [*(HERE / name for name in REPORTS), bad]:
                page = folder / f"{report.stem}.html"
                subprocess.run([arguments.tool.resolve(), report, page], check=True)
                for width, scheme in [(1200, "light"), (1200, "dark"), (400, "light"), (400, "dark")]:
                    picture = arguments.pictures and arguments.pictures / f"{report.stem}-{width}-{scheme}.png"
                    found = look(browser, page, width, scheme, picture)
                    print(f"{report.stem} at {width}, {scheme}: {found['texts']} texts, contrast from {found['least']:.2f}, "
                          f"{len(found['faults'])} faults", flush=True)
                    for fault in found["faults"][:20]:
                        print(f"    {fault}")
                    failed += len(found["faults"])
        finally:
            browser.close()
    print(f"{failed} faults in {time.monotonic() - start:.0f} s")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
