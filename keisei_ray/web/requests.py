"""Bodies and queries of requests, checked; and work that ends when its client has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from keisei_ray.telemetry.visible_text import shortened

LOOK_S: Final = 0.25
"""Seconds between two looks whether the client is still there."""
Result = TypeVar("Result")


class Fields(BaseModel):
    """Fields of a request; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Asked = TypeVar("Asked", bound=Fields)


async def body(request: web.Request, fields: type[Asked]) -> Asked:
    """Reads the JSON body of a request.

    Raises:
        HTTPBadRequest: not JSON, or not these fields.
    """
    try:
        return fields.model_validate_json(await request.read())
    except ValidationError as error:
        raise web.HTTPBadRequest(text=_first_fault(error)) from error


def query(request: web.Request, fields: type[Asked]) -> Asked:
    """Reads the query of a request; an empty value counts as none.

    Raises:
        HTTPBadRequest: not these fields.
    """
    given = {name: value for name, value in request.query.items() if value}
    try:
        return fields.model_validate(given)
    except ValidationError as error:
        raise web.HTTPBadRequest(text=_first_fault(error)) from error


async def while_connected(request: web.Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Waits for work, and cancels it where the client has gone or the server ends.

    Raises:
        HTTPRequestTimeout: the client has gone; no answer reaches it.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=LOOK_S)
            if done:
                return task.result()
            if request.transport is None or request.transport.is_closing():
                raise web.HTTPRequestTimeout(text="the browser has gone")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _first_fault(error: ValidationError) -> str:
    """Returns the first fault of a request in one line."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"])) or "the request"
    return f"{shortened(where)}: {shortened(fault['msg'])}"
