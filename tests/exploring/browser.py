"""A real browser to test with: chromium without a window, driven over its pipe by the DevTools protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, Self

import pytest

#: Chromium reads commands from descriptor 3 and answers on 4, whatever the numbers of our pipes are.
_PIPED = """
import fcntl, os, sys
come, go = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(come, 3)
os.dup2(go, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page in chromium; ``problems`` gathers errors of its scripts and of what it loads.

    Args:
        folder: An empty folder for the browser's own files and for what it saves.
        size: Width and height of the page in pixels.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 800)):
        found = shutil.which("chromium") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("chromium is not installed")
        come, self._write = os.pipe()
        self._read, go = os.pipe()
        command = [
            sys.executable, "-c", _PIPED, str(come), str(go), found, "--headless", "--no-sandbox",
            "--remote-debugging-pipe", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, pass_fds=(come, go), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(come)
        os.close(go)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.problems: list[str] = []
        try:
            self._begin(size)
        except BaseException:
            self.__exit__()
            raise

    def _begin(self, size: tuple[int, int]) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        width, height = size
        screen: dict[str, Any] = {
            "width": width,
            "height": height,
            "screenWidth": width,
            "screenHeight": height,
        }
        self.call("Emulation.setDeviceMetricsOverride", **screen, deviceScaleFactor=1, mobile=False)
        self.prefer("light")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)  # the browser ends with its pipe
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Send one command of the protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "chromium ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:1000])
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.problems.append(json.dumps(params["args"])[:1000])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(json.dumps(params["entry"])[:1000])

    def prefer(self, scheme: Literal["light", "dark"]) -> None:
        """Set what the reader likes."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 20.0) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}; {self.problems}"
            time.sleep(0.05)
        return value

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False, shift: bool = False) -> None:
        self.call(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}",
            x=x,
            y=y,
            button="left" if kind != "Moved" else "none",
            buttons=int(held),
            clickCount=int(kind != "Moved"),
            modifiers=8 if shift else 0,
        )

    def click(self, x: float, y: float) -> None:
        self.mouse("Moved", x, y)
        self.mouse("Pressed", x, y, held=True)
        self.mouse("Released", x, y)

    def drag(self, way: list[tuple[float, float]], *, shift: bool = False) -> None:
        """Press at the first place, move over the others, and let go at the last."""
        self.mouse("Moved", *way[0])
        self.mouse("Pressed", *way[0], held=True, shift=shift)
        for (x, y), (to_x, to_y) in itertools.pairwise(way):
            for part in (0.25, 0.5, 0.75, 1.0):
                self.mouse("Moved", x + part * (to_x - x), y + part * (to_y - y), held=True, shift=shift)
                time.sleep(0.02)
        self.mouse("Released", *way[-1], shift=shift)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def key(self, key: str, code: int = 0) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def picture(self, path: Path) -> None:
        """Write what the page looks like as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
