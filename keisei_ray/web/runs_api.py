"""Answers about runs: the list, curves, events, settings, and what changes while a page is open.

/api/runs                      all runs, as far as they have been read
/api/runs/{run}/charts         curves, thinned out
/api/runs/{run}/events         events, the newest in full
/api/settings?run=A&run=B      settings of runs side by side, as far as the runs are shown
/api/live?run=A&run=B          states of these runs as they change; without any: of all
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from keisei_ray.errors import RunDirError, UserError
from keisei_ray.report.tables import event_rows, flat_settings
from keisei_ray.web.answers import json_answer
from keisei_ray.web.feeds import Snapshot
from keisei_ray.web.keys import FEEDS, RUNS, read
from keisei_ray.web.live import send_events

MOST_COMPARED: Final = 8
"""Runs that a page shows side by side."""
CHARTS_AHEAD: Final = 5
"""Newest runs whose curves are read before a page asks for them."""
LIVE_S: Final = 1.0
"""Seconds between two looks for one client."""
_TURN_S: Final = 0.3
"""Seconds after which a client gets what has been read, while other runs are still being read."""


def add_routes(app: web.Application) -> None:
    """Adds the addresses of this module."""
    app.router.add_get("/api/runs", _list)
    app.router.add_get("/api/runs/{run}/charts", _charts)
    app.router.add_get("/api/runs/{run}/events", _events)
    app.router.add_get("/api/settings", _settings)
    app.router.add_get("/api/live", _live)
    app.cleanup_ctx.append(_reading_ahead)


async def _reading_ahead(app: web.Application) -> AsyncIterator[None]:
    """Reads all runs while no page is open yet, the charts of the newest ones too."""
    task = asyncio.create_task(_read_all(app))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _read_all(app: web.Application) -> None:
    feeds, runs = app[FEEDS], app[RUNS].newest_first()
    for number, name in enumerate(runs):
        with contextlib.suppress(UserError, web.HTTPNotFound):
            await feeds.snapshot(name)
            if number < CHARTS_AHEAD:
                await feeds.charts(name)


async def _list(request: web.Request) -> web.Response:
    shown, feeds = request.app[RUNS], request.app[FEEDS]
    runs, names = await read(request.app, lambda: (shown.refresh(), shown.newest_first()))
    states = [_state(name, shown.place(runs[name]), feeds.known(name)) for name in names]
    return json_answer({"runs": states})


async def _charts(request: web.Request) -> web.Response:
    revision, charts = await request.app[FEEDS].charts(request.match_info["run"])
    tag = f'"{revision}"'
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers={"ETag": tag})
    return web.Response(body=charts, content_type="application/json", headers={"ETag": tag})


async def _events(request: web.Request) -> web.Response:
    run = await request.app[FEEDS].run(request.match_info["run"])
    rows = await read(request.app, lambda: event_rows(run.events, run.events_left_out))
    return json_answer(
        {
            "events": [
                {"time": r.time, "kind": r.kind, "text": r.text, "isTrouble": r.is_trouble}
                for r in rows
            ],
            "damaged": dict(run.damaged),
        }
    )


async def _settings(request: web.Request) -> web.Response:
    await request.app[FEEDS].current_runs()
    found = {
        name: dict(flat_settings((await request.app[FEEDS].run(name)).config))
        for name in _shown(request.app, _named(request))
    }
    keys = dict.fromkeys(key for settings in found.values() for key in settings)
    rows = []
    for key in keys:
        values = [settings.get(key) for settings in found.values()]
        rows.append({"setting": key, "values": values, "differs": len(set(values)) > 1})
    return json_answer({"runs": list(found), "settings": rows})


async def _live(request: web.Request) -> web.StreamResponse:
    app, named = request.app, _named(request)
    await app[FEEDS].current_runs()
    _shown(app, named)  # Where none of the runs is shown, that is refused before anything is sent.
    sent: dict[str, object] = {}

    async def look() -> object | None:
        runs = await app[FEEDS].current_runs()
        changed: dict[str, object] = {}
        began_s = time.monotonic()
        for name in named or runs:
            state = await _newest(app, name)
            if sent.get(name) != state:
                sent[name] = changed[name] = state
            if changed and time.monotonic() - began_s > _TURN_S:
                break
        for name in [name for name in sent if name not in runs and name not in named]:
            del sent[name]
            changed[name] = {"run": name, "error": "it is gone", "isGone": True}
        return {"runs": list(changed.values())} if changed else None

    return await send_events(request, look, LIVE_S)


async def _newest(app: web.Application, name: str) -> dict[str, Any]:
    """Returns the state of a run; of one that cannot be read, why."""
    try:
        snapshot = await app[FEEDS].snapshot(name)
        return _state(name, app[RUNS].place(app[RUNS].path(name)), snapshot)
    except web.HTTPNotFound as error:
        return {"run": name, "error": error.text, "isGone": True}
    except RunDirError as error:
        return {"run": name, "error": str(error), "isGone": False}


def _shown(app: web.Application, named: list[str]) -> list[str]:
    """Returns those of some runs that are shown.

    Raises:
        HTTPNotFound: there are runs, and none of them is shown.
    """
    found = []
    missing = None
    for name in named:
        try:
            app[RUNS].path(name)
            found.append(name)
        except web.HTTPNotFound as error:
            missing = error
    if missing is not None and not found:
        raise missing
    return found


def _state(name: str, path: str, snapshot: Snapshot | None) -> dict[str, Any]:
    if snapshot is None:
        return {"run": name, "path": path, "revision": 0, "status": None}
    return {"run": name, "path": path, "revision": snapshot.revision, "status": snapshot.status}


def _named(request: web.Request) -> list[str]:
    """Returns the runs that the query names, each once.

    Raises:
        HTTPBadRequest: more than a page shows.
    """
    names = list(dict.fromkeys(request.query.getall("run", [])))
    if len(names) > MOST_COMPARED:
        raise web.HTTPBadRequest(text=f"{len(names)} runs, expected at most {MOST_COMPARED}")
    return names
