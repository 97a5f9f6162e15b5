"""Open a report from the file system in headless Chromium, and see: no console error, no outside request, pictures.

    python tools/look_report.py REPORT.html PICTURES [TEST…]

Needs chromium and chromedriver (Debian: chromium chromium-driver fonts-dejavu fonts-noto-core). The pictures are for a
person to look at: of the overview, of the quality gate and the charts, and of each test whose name holds one of the
words (none given: the first that did not pass, and the first that did).
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

WIDTH = 1280
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    f"--window-size={WIDTH},1000",
)


class Browser:
    """Headless Chromium, spoken to through chromedriver (W3C WebDriver) on the loopback."""

    def __init__(self, port: int, profile: str) -> None:
        self._base = f"http://127.0.0.1:{port}"
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{made['sessionId']}"

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, address: str) -> None:
        self._call("POST", "/url", {"url": address})

    def run(self, script: str) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, script: str, timeout: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout
        while not (found := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout:g} s for: {script}")
            time.sleep(0.1)
        return found

    def size(self, width: int, height: int) -> None:
        self._call("POST", "/window/rect", {"width": width, "height": height})

    def picture(self, path: Path) -> None:
        """Take a picture of the whole page, however long: the report scrolls within itself."""
        self.size(WIDTH, 1000)
        for _ in range(3):  # what grows makes its frame grow, a little later
            time.sleep(0.4)
            scrolled = self.run(
                "const found = [...document.querySelectorAll('*')]"
                ".filter(e => /auto|scroll/.test(getComputedStyle(e).overflowY))"
                ".map(e => e.scrollHeight - e.clientHeight); return Math.max(0, ...found)"
            )
            if not scrolled:
                break
            self.size(WIDTH, self.run("return window.outerHeight") + scrolled + 10)
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(taken["data"]))

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Have the browser do what WebDriver has no word for."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look_like(self, width: int, *, dark: bool) -> None:
        """Be a screen of so many pixels, a phone where it is narrow, whose owner likes pages light or dark."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        liked = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[liked])

    def pdf(self) -> bytes:
        """Print the page."""
        printed = self.devtools("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(printed["data"])

    def log(self, kind: str) -> list[dict[str, Any]]:
        return list(self._call("POST", "/se/log", {"type": kind}))

    def close(self) -> None:
        self._call("DELETE", "")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    with tempfile.TemporaryDirectory(prefix="channover-look-") as profile:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert driver.stdout is not None
        try:
            for line in driver.stdout:
                if b"started successfully on port " in line:
                    port = int(line.rpartition(b"port ")[2].strip(b". \n"))
                    break
            else:
                raise AssertionError("chromedriver did not start")
            found = Browser(port, profile)
            try:
                yield found
            finally:
                found.close()
        finally:
            driver.terminate()
            driver.wait()


def outside(events: list[dict[str, Any]]) -> list[str]:
    """Return what was asked of anything but the file itself; ``chrome`` is the browser's own page, before any other."""
    found = []
    for event in events:
        message = json.loads(event["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            address = message["params"].get("request", message["params"])["url"]
            if not address.startswith(("file:", "data:", "blob:", "about:", "chrome:", "chrome-untrusted:")):
                found.append(address)
    return found


def errors(entries: list[dict[str, Any]]) -> list[str]:
    """Return the console's errors."""
    return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


_TESTS = """return Object.entries(window.allureReportData)
    .filter(([name]) => name.startsWith("data/test-results/"))
    .map(([, content]) => JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(content), c => c.charCodeAt(0)))))
    .map(({id, name, status}) => ({id, name, status}))"""

_CUT = """const wide = e => e.scrollWidth > e.clientWidth + 1;
    return [...document.querySelectorAll('iframe')].filter(f => f.contentDocument?.documentElement
        && [f.contentDocument.documentElement, ...f.contentDocument.querySelectorAll('table, div')].some(wide)).length"""

_CLICK = """const found = [...document.querySelectorAll('button, a, [role=tab]')]
    .find(e => e.innerText.trim().startsWith("%s")); found?.click(); return Boolean(found)"""


def chosen(tests: list[dict[str, str]], words: list[str]) -> list[dict[str, str]]:
    """Return the tests to take pictures of."""
    if words:
        return [test for test in tests if any(word in test["name"] for word in words)]
    by_status = {test["status"]: test for test in reversed(tests)}
    return list(by_status.values())


def look(report: Path, pictures: Path, words: list[str]) -> list[str]:
    """Look at a report; return what is wrong with it."""
    pictures.mkdir(parents=True, exist_ok=True)
    with browser() as window:
        address = report.resolve().as_uri()
        window.open(address)
        window.wait("return document.querySelector('#app')?.innerText.length > 100")
        window.picture(pictures / "overview.png")
        for tab in ("Quality Gates", "Categories", "Global Errors"):
            if window.run(_CLICK % tab):
                window.picture(pictures / f"{tab.lower().replace(' ', '-')}.png")
        for section in ("Charts", "Metrics"):
            window.open(f"{address}#{section.lower()}")
            time.sleep(1)
            window.picture(pictures / f"{section.lower()}.png")
        tests = window.run(_TESTS)
        assert tests, "the report has no tests"
        found = []
        for test in chosen(tests, words):
            window.open(f"{address}#{test['id']}")
            window.wait("return document.querySelector('#app')?.innerText.length > 100")
            window.wait("return [...document.querySelectorAll('iframe')].every(f => f.offsetHeight > 0)")
            if window.run(_CUT):
                found.append(f"cut: the page of {test['name'][:100]} is wider than its frame")
            name = f"test-{test['status']}-{re.sub(r'[^A-Za-z0-9_]+', '-', test['name'])[:60]}"
            window.picture(pictures / f"{name}.png")
            window.run("document.documentElement.style.filter = 'grayscale(1)'")
            window.picture(pictures / f"{name}-grey.png")
            window.run("document.documentElement.style.filter = ''")
        found += [f"outside request: {one}" for one in outside(window.log("performance"))]
        found += [f"console: {one}" for one in errors(window.log("browser"))]
        return found


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__)
        return 2
    found = look(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    for line in found:
        print(line)
    print(f"{len(found)} faults; pictures in {sys.argv[2]}: look at them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
