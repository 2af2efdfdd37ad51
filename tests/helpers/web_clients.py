"""A client of the web server, which runs in the same process at a free port."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from keisei_ray.web.command import access_for
from keisei_ray.web.server import Access, application
from keisei_ray.web.shown_runs import ShownRuns

Client = TestClient[Request, Application]


def with_client(
    runs: Sequence[Path],
    talk: Callable[[Client], Awaitable[None]],
    access: Access | None = None,
    uris: Mapping[Path, str] | None = None,
) -> None:
    """Serves runs and lets `talk` ask; by default as a server on the loopback interface."""

    async def serve() -> None:
        shown = ShownRuns([str(run) for run in runs], uris)
        app = application(shown, access or access_for("127.0.0.1"))
        async with TestClient(TestServer(app)) as client:
            await talk(client)

    asyncio.run(serve())
