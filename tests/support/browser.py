"""A browser without a window, driven by real clicks and keys through chromedriver (W3C WebDriver), or none."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""
WITHOUT = "needs a browser: apt-get install chromium chromium-driver"
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Down": "\ue015", "Up": "\ue013", "Right": "\ue014", "Left": "\ue012"}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000")

needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=WITHOUT)


@dataclass(frozen=True)
class Browser:
    """One session."""

    session: str

    def _ask(self, path: str, **words: Any) -> Any:
        return _ask(f"{self.session}/{path}", words)

    def open(self, page: Path) -> None:
        self._ask("url", url=page.as_uri())

    def resize(self, width: int, height: int) -> None:
        self._ask("goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=_metrics(width, height))

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self._ask("execute/sync", script=script, args=list(arguments))

    def click(self, selector: str, number: int = 0) -> None:
        """Click in the middle of the element with this number among those that the selector finds. It must be seen."""
        found = self._ask("elements", using="css selector", value=selector)
        self._ask(f"element/{found[number][_ELEMENT]}/click")

    def press(self, *names: str) -> None:
        """Press and release keys, one after the other, where the focus is."""
        keys = [KEYS.get(name, name) for name in names]
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def type(self, selector: str, text: str) -> None:
        found = self._ask("element", using="css selector", value=selector)
        self._ask(f"element/{found[_ELEMENT]}/value", text=text)

    def text(self, selector: str) -> str:
        """The visible text of the first element that the selector finds."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def load_time(self) -> float:
        """Milliseconds until the page's load event had ended. `open` may return before that; the time is then 0."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if spent := self.run("return performance.getEntriesByType('navigation')[0].loadEventEnd"):
                return float(spent)
            time.sleep(0.02)
        raise RuntimeError("the page does not end to load")

    def complaints(self) -> list[str]:
        """What the browser's console holds: errors of scripts, and everything that was not allowed to load."""
        return [entry["message"] for entry in self._ask("se/log", type="browser")]


@contextmanager
def browser() -> Iterator[Browser]:
    """A context manager: a browser with an empty profile. It ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        options = {"binary": CHROMIUM, "args": list(_FLAGS)}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        url = f"http://127.0.0.1:{port}/session"
        _wait(port)
        opened = Browser(f"{url}/{_ask(url, {'capabilities': {'alwaysMatch': wanted}})['sessionId']}")
        try:
            yield opened
        finally:
            urlopen(Request(opened.session, method="DELETE"), timeout=30).close()
    finally:
        driver.terminate()
        driver.wait(30)


def _metrics(width: int, height: int) -> dict[str, Any]:
    return {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}


def _ask(url: str, words: dict[str, Any]) -> Any:
    data = json.dumps(words).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=120) as answer:
        return json.load(answer)["value"]


def _wait(port: int) -> None:
    """Until the driver listens."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("chromedriver does not answer")
