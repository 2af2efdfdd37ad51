"""Work that a request waits for."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from keisei_ray.web import requests
from keisei_ray.web.requests import while_connected


def request_of(transport: object) -> web.Request:
    return cast(web.Request, SimpleNamespace(transport=transport))


@pytest.mark.parametrize("transport", [None, SimpleNamespace(is_closing=lambda: True)])
def test_work_is_cancelled_where_the_client_has_gone(
    transport: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LOOK_S", 0.01)
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def ask() -> None:
        with pytest.raises(web.HTTPRequestTimeout):
            await asyncio.wait_for(while_connected(request_of(transport), work()), 30)

    asyncio.run(ask())
    assert ended == [True]


def test_the_result_and_the_error_of_the_work_are_passed_on() -> None:
    connected = request_of(SimpleNamespace(is_closing=lambda: False))

    async def work(divisor: int) -> float:
        await asyncio.sleep(0)
        return 1 / divisor

    async def ask() -> None:
        assert await while_connected(connected, work(2)) == 0.5
        with pytest.raises(ZeroDivisionError):
            await while_connected(connected, work(0))

    asyncio.run(ask())
