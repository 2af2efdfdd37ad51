"""A headless Chromium that is driven as a person would: by clicks, keys and a look at the page."""

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.helpers.browser import CHROMIUM, sockets_of_its_own

WAIT_S = 60.0
"""Seconds after which a page has not done what was expected."""


class Page:
    """A page in the browser, by Chromium's DevTools protocol.

    Attributes:
        errors: uncaught errors, refused loads and errors of the console, as text.
        requests: addresses that the page has asked for.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.errors: list[str] = []
        self.requests: list[str] = []

    async def listen(self) -> None:
        """Takes what the browser says until the connection ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(said["params"]["exceptionDetails"])[:500])
            elif said["method"] == "Log.entryAdded":
                entry = said["params"]["entry"]
                if entry["level"] == "error":
                    self.errors.append(f"{entry['text']} {entry.get('url', '')}")
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])

    async def call(self, method: str, **params: Any) -> Any:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, WAIT_S)
        assert "error" not in said, said
        return said["result"]

    async def look(self, expression: str) -> Any:
        """Evaluates an expression in the page and returns its value."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Waits until an expression is true."""
        loop = asyncio.get_running_loop()
        end = loop.time() + WAIT_S
        while not await self.look(f"Boolean({expression})"):
            if loop.time() > end:
                text = await self.look("document.body.innerText")
                raise AssertionError(f"{expression} never came true; the page says:\n{text}")
            await asyncio.sleep(0.05)

    async def open(self, url: str, width: int, height: int = 900) -> None:
        """Opens an address in a window of a size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await self.call("Page.navigate", url=url)

    async def place(self, selector: str) -> tuple[float, float]:
        """Scrolls an element into view and returns its center."""
        element = f"document.querySelector({json.dumps(selector)})"
        await self.wait_for(element)
        x, y = await self.look(
            f"(() => {{ const e = {element};"
            "e.scrollIntoView({block: 'nearest', behavior: 'instant'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return x, y

    async def click(self, selector: str) -> None:
        """Clicks on the center of an element with the mouse."""
        await self.mouse("mousePressed", *await self.place(selector))
        await self.mouse("mouseReleased", *await self.place(selector))

    async def drag(self, start: str, end: str) -> None:
        """Drags from one element to another with the mouse."""
        await self.mouse("mousePressed", *await self.place(start))
        await self.mouse("mouseMoved", *await self.place(end))
        await self.mouse("mouseReleased", *await self.place(end))

    async def swipe(self, start: str, end: str) -> None:
        """Carries a finger from one element to another."""
        from_, to = await self.place(start), await self.place(end)
        await self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        for step in range(5):
            x, y = (a + (b - a) * step / 4 for a, b in zip(from_, to, strict=True))
            kind = "touchMove" if step else "touchStart"
            await self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        await self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        await self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    async def mouse(self, kind: str, x: float, y: float) -> None:
        """Sends an event of the mouse."""
        await self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
        )

    async def key(self, name: str) -> None:
        """Presses a key and releases it."""
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
        text = {"text": "\r"} if name == "Enter" else {}
        key = {"key": name, "code": name, "windowsVirtualKeyCode": codes.get(name, 40)}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    async def screenshot(self, file: Path) -> None:
        """Saves a picture of the whole page."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def browser_page(profile: Path) -> AsyncIterator[Page]:
    """Starts a browser and yields its page; the browser ends with the block.

    Args:
        profile: an empty directory for it.
    """
    assert CHROMIUM is not None
    with sockets_of_its_own() as environment:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-extensions", "--disable-background-networking",
            "--remote-debugging-port=0", "--lang=en-US", f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        try:
            async with _connected(await asyncio.wait_for(_port(process), WAIT_S)) as page:
                yield page
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            await process.wait()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[Page]:
    """Yields the page of a browser that listens on this port, and closes the browser."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(t for t in await answer.json() if t["type"] == "page")
        url = target["webSocketDebuggerUrl"]
        async with session.ws_connect(url, max_msg_size=1 << 28) as socket:
            page = Page(socket)
            listening = asyncio.ensure_future(page.listen())
            for domain in ("Runtime", "Log", "Page", "Network"):
                await page.call(f"{domain}.enable")
            yield page
            with contextlib.suppress(AssertionError):
                await page.call("Browser.close")
            listening.cancel()


async def _port(process: asyncio.subprocess.Process) -> int:
    """Reads the port from what the browser says when it has started."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        found = re.search(rb"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line)
        if found:
            return int(found[1])
    raise AssertionError("Chromium has ended")
