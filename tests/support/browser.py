"""A real browser for the page: Debian's chromium, headless, driven over its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import websocket
from stand import await_


class Browser:
    """One page. Everything that it complains of on its console is in ``complaints``."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self.complaints: list[str] = []
        self._connection = connection
        self._numbers = itertools.count(1)
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> Any:
        """One DevTools command's result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(message["params"]))

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, in the page."""
        result = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """One key, by its name in JavaScript."""
        codes = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, "/": 191}
        event = {"key": key, "windowsVirtualKeyCode": codes[key]}
        text = {"Enter": "\r", "/": "/"}.get(key)
        typed = {"text": text} if text else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", **event, **typed)
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self.command("Input.insertText", text=text)

    def text(self) -> str:
        """What a person reads."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def await_text(self, text: str) -> None:
        await_(lambda: text in self.text(), f"the page says {text!r}: {self.text()}", 30)

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """As on a screen of ``width`` CSS pixels, with or without a wish for darkness."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file: Path) -> None:
        shot = self.command("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser_in(folder: Path, *options: str) -> Iterator[Browser]:
    """A browser with its profile in ``folder``, until the end. ``options``: further ones of its
    command line."""
    program = shutil.which("chromium")
    assert program, "there is no chromium; haproxy/install chromium installs it"
    process = subprocess.Popen(
        [
            program,
            "--headless",
            "--no-sandbox",  # it is for other people's pages, and does not work in containers
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            *options,
            "--remote-debugging-address=127.0.0.1",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        file = folder / "DevToolsActivePort"
        await_(lambda: file.exists() and "\n" in file.read_text(), "the browser is there", 60)
        port = file.read_text().split()[0]
        pages = requests.get(f"http://127.0.0.1:{port}/json/list", timeout=30).json()
        target = next(page for page in pages if page["type"] == "page")
        connection = websocket.create_connection(
            target["webSocketDebuggerUrl"], timeout=60, suppress_origin=True
        )
        with contextlib.closing(connection):
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(30)
