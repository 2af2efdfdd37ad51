"""Answers about runs: the list, curves, events and settings."""

from aiohttp import web

from keisei_ray.web.keys import RUNS, read


def add_routes(app: web.Application) -> None:
    """Adds the addresses of this module."""
    app.router.add_get("/api/runs", _list)


async def _list(request: web.Request) -> web.Response:
    runs = await read(request.app, request.app[RUNS].refresh)
    listed = [{"run": name, "path": str(path)} for name, path in runs.items()]
    return web.json_response({"runs": listed})
