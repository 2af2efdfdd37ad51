"""Events for pages that are open: nothing is kept for a client that does not read."""

import asyncio
import itertools

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient, TestServer

from keisei_ray.web.live import send_events


def test_a_client_that_has_gone_before_the_answer_begins_is_no_fault() -> None:
    seen: list[BaseException | None] = []

    async def serve() -> None:
        async def live(request: web.Request) -> web.StreamResponse:
            async def look() -> object:
                return None

            assert request.transport is not None
            request.transport.abort()
            try:
                response = await send_events(request, look, 0.0)
            except ConnectionError as error:
                seen.append(error)
                raise
            seen.append(None)
            return response

        app = web.Application()
        app.router.add_get("/", live)
        async with TestClient(TestServer(app)) as client:
            with pytest.raises(ClientError):
                await client.get("/")

    asyncio.run(serve())
    assert seen == [None]


def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up its own events only; another client gets all."""
    monkeypatch.setattr("keisei_ray.web.live.WRITE_TIMEOUT_S", 0.2)
    ended = asyncio.Event()
    looked = itertools.count()

    async def serve() -> None:
        async def live(request: web.Request) -> web.StreamResponse:
            async def look() -> object:
                next(looked)
                return "x" * 1_000_000

            response = await send_events(request, look, 0.0)
            ended.set()
            return response

        app = web.Application()
        app.router.add_get("/", live)
        async with TestClient(TestServer(app)) as client:
            url = client.make_url("/")
            reader, writer = await asyncio.open_connection(url.host, url.port, limit=1)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.wait_for(ended.wait(), 60)
            writer.close()
            del reader
        assert next(looked) < 1000

    asyncio.run(serve())
