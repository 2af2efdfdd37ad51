"""Keys of what the handlers of all pages share, in the application; and how they read files."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from keisei_ray.web.feeds import Feeds
from keisei_ray.web.shown_runs import ShownRuns

RUNS = web.AppKey("RUNS", ShownRuns)
FEEDS = web.AppKey("FEEDS", Feeds)
READER = web.AppKey("READER", ThreadPoolExecutor)
"""The one thread that reads the files of runs; what it fills is no concern of other threads."""
Result = TypeVar("Result")


def run_path(request: web.Request) -> Path:
    """Returns the directory of the run that the address of a request names as `{run}`.

    Raises:
        HTTPNotFound: there is no such run.
    """
    return request.app[RUNS].path(request.match_info["run"])


def run_place(request: web.Request) -> tuple[Path, str | None]:
    """Returns the same, and the URI of the run where that is a copy."""
    path = run_path(request)
    return path, request.app[RUNS].uri(path)


async def read(app: web.Application, function: Callable[[], Result]) -> Result:
    """Calls a function that reads files of a run, in the thread that does."""
    return await asyncio.get_running_loop().run_in_executor(app[READER], function)
