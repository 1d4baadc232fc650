"""A headless Chromium, driven through its pipe of DevTools messages."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--remote-debugging-pipe", "--window-size=1280,720", "--hide-scrollbars", "--no-first-run"),
)


def find() -> str | None:
    """Return the path of an installed browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page in a browser of its own, as a context manager.

    Attributes:
      problems: Errors of scripts, messages to the console and refused requests, since it opened.
    """

    def __init__(self, file: Path, profile: Path):
        self.file, self.profile = file, profile
        self.problems: list[str] = []
        self._number = 0

    def __enter__(self):
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        redirected = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._browser = subprocess.Popen(
            ["bash", "-c", redirected, find(), *FLAGS, f"--user-data-dir={self.profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._received = os.fdopen(self._in, "rb")
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.requests: list[str] = []
        self.call("Page.navigate", url=self.file.absolute().as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass
        return self

    def __exit__(self, *error):
        os.close(self._out)
        self._browser.kill()
        self._browser.wait()
        self._received.close()

    def call(self, method: str, **params: Any) -> dict:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get(
            "value"
        )

    def point(self, selector: str) -> None:
        """Move the pointer to the middle of an element."""
        x, y = self.evaluate(
            f"(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, file: Path) -> None:
        """Write a picture of the page."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _read(self) -> dict:
        """Return the next message, after noting problems and requests."""
        content = bytearray()
        while (byte := self._received.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        message = json.loads(content)
        method, params = message.get("method"), message.get("params", {})
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.problems.append(json.dumps(params)[:500])
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        return message
