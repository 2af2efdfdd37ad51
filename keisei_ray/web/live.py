"""Server-sent events: a page learns what has changed while it is open.

Nothing is queued for a client. Each has a coroutine that looks at the present state, writes what
has changed, and looks again when that is written. A client that does not read holds up its own
coroutine only, until the time limit ends it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from keisei_ray.web.answers import json_text

WRITE_TIMEOUT_S: Final = 30.0
"""Seconds after which a client that does not read is left."""
HEARTBEAT_S: Final = 15.0
"""Seconds without a change after which an empty line is sent, so that a lost client is noticed."""
RETRY_MS: Final = 2000
"""Time after which a browser connects again once the connection is lost."""


async def send_events(
    request: web.Request, look: Callable[[], Awaitable[object | None]], every_s: float
) -> web.StreamResponse:
    """Answers with events until the client leaves or the server ends.

    Args:
        request: the client's.
        look: returns what has changed since it was last called, as JSON types; None: nothing.
        every_s: seconds between two looks.
    """
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    try:
        await response.prepare(request)
        await _write(response, f"retry: {RETRY_MS}\n\n")
        silent_s = 0.0
        while True:
            changed = await look()
            if changed is not None:
                await _write(response, f"data: {json_text(changed)}\n\n")
                silent_s = 0.0
            elif silent_s >= HEARTBEAT_S:
                await _write(response, ":\n\n")
                silent_s = 0.0
            await asyncio.sleep(every_s)
            silent_s += every_s
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(text.encode("utf-8", "backslashreplace"))
