"""Looks at the pages of reports in headless Chromium with scripts off: as a person would, but every time.

The browser is driven through its DevTools pipe, with Python's standard library alone. Each page is shown at 400 and at
1200 pixels, light and dark, and each time:

- nothing stands in the console, and nothing but the page itself is requested;
- headings are in order; every heading, table, picture and label is visible and has a size;
- nothing is wider than the screen, but inside a box that scrolls;
- every text has a contrast of at least 4.5 to what is behind it, a large one or a picture's mark 3 (WCAG 2.2, 1.4.3 and
  1.4.11), and letters of at least 11 pixels;
- pictures have a role and a label, tables a caption, links a target.

Beside the reports of this folder, one is made in which every text is hostile: markup, control characters, a word of 400
letters. At the end, faults are planted in a page, and all must be found.
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
# The events of something said in the console, or of a dialog.
SAID = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"}
# What the page's code reads as a name stays; all other texts of the hostile report are changed.
KEPT = {"better", "outcome", "stop", "by", "kind", "headline"}
HOSTILE = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>\x1b[31m\u202e\x9b" + "w" * 400

# What is put at the start of a page's main part, and the words with which it must be found.
PLANTED = [
    ("<h4>Too deep</h4>", "h4 after h1"),
    ("<h2 style='display:none'>Hidden</h2>", "not visible"),
    ("<p style='color:#8888'>Faint</p>", "contrast"),
    ("<p style='font-size:9px'>Small</p>", "letters of 9 pixels"),
    ("<div style='width:3000px'>Wide</div>", "out of the screen"),
    ("<svg></svg>", "a picture without a label"),
    ("<table><tr><td>1</td></tr></table>", "a table without a caption"),
    ("<a href='#nowhere'>Lost</a>", "a link that leads nowhere"),
    ("<img src='http://127.0.0.1:9/x.png'>", "Log.entryAdded"),
]

LOOK = (HERE / "look.js").read_text()


class Browser:
    """A headless browser on its DevTools pipe: JSON messages that end in a zero byte, on descriptors 3 and 4."""

    def __init__(self, path, folder):
        to_read, self.out = os.pipe()
        self.into, to_write = os.pipe()
        flags = [
            "--headless", "--disable-gpu", "--no-sandbox", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}",
        ]
        # The shell puts the pipe's ends at 3 and 4, whatever numbers they have here; a plain sh may know one digit only.
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}']
        command = [*shell, path, *flags, "--remote-debugging-pipe", "about:blank"]
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
        if method in SAID:
            found["faults"].append(f"{method}: {json.dumps(parameters)[:200]}")
    return found


def missed(browser, page):
    """The planted faults that are not found."""
    text = page.read_text().replace("<main>", "<main>" + "".join(markup for markup, _ in PLANTED), 1)
    page.write_text(text)
    faults = look(browser, page, 400, "light", None)["faults"]
    return [expected for _, expected in PLANTED if not any(expected in fault for fault in faults)]


def hostile(value, key=""):
    """A report in which every text that is not a name for the program is hostile."""
    if isinstance(value, dict):
        figure = "better" in value
        suffix = HOSTILE if key in ("hashes", "about", "manifest") else ""
        named = {name + suffix: inner for name, inner in value.items()}
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
                    seen = f"{found['texts']} texts, contrast from {found['least']:.2f}"
                    print(f"{report.stem} at {width}, {scheme}: {seen}, {len(found['faults'])} faults", flush=True)
                    for fault in found["faults"][:20]:
                        print(f"    {fault}")
                    failed += len(found["faults"])
            unseen = missed(browser, folder / "report.html")
            print(f"{len(PLANTED) - len(unseen)} of {len(PLANTED)} planted faults found; missed: {unseen}")
            failed += len(unseen)
        finally:
            browser.close()
    print(f"{failed} faults in {time.monotonic() - start:.0f} s")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
