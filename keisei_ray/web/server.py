"""Application with all pages: who may ask, what a browser may do, errors, static files.

A page module has `add_routes(app)`. Its handlers return `web.json_response`, or raise: a
`UserError` or an HTTP error of aiohttp becomes `{"error": "one line"}`.

On the loopback interface every user of this machine may ask, without a token; but a name in the
address that is not this machine's is refused, since a page of another site could have it lead
here (DNS rebinding). Elsewhere a token is needed, which the address that is printed carries once;
then a cookie has it. Nothing but a page of this server may send a POST.
"""

import hmac
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from keisei_ray import report
from keisei_ray.errors import UserError
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.web import games_api, play_api, runs_api
from keisei_ray.web.feeds import Feeds
from keisei_ray.web.keys import FEEDS, READER, RUNS
from keisei_ray.web.shown_runs import ShownRuns

logger = logging.getLogger(__name__)

STATIC_DIR: Final = Path(__file__).parent / "static"
SHARED_DIR: Final = Path(report.__file__).parent / "shared"
"""Files that the pages share with those of `report`."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_REQUEST_BYTES: Final = 64 << 10
"""Largest body of a request: moves of a game, an SFEN."""
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """Rules of who may ask."""

    hosts: frozenset[str]
    """Names by which the server may be asked for; empty: any, which only a token allows."""
    token: str | None
    """Secret that a client must know; None: none is needed."""


def application(runs: ShownRuns, access: Access) -> web.Application:
    """Makes the application with all pages."""
    app = web.Application(
        middlewares=[_errors_in_a_line, _guard(access)], client_max_size=MAX_REQUEST_BYTES
    )
    app[RUNS] = runs
    app[READER] = ThreadPoolExecutor(1, "reader")
    app[FEEDS] = Feeds(runs, app[READER])
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/", _index)
    app.router.add_static("/static", STATIC_DIR)
    app.router.add_static("/shared", SHARED_DIR)
    for page in (runs_api, games_api, play_api):
        page.add_routes(app)
    return app


async def _index(request: web.Request) -> web.StreamResponse:
    del request
    return web.FileResponse(STATIC_DIR / "index.html")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.update(HEADERS)


@web.middleware
async def _errors_in_a_line(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers an error in one line."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        return _refusal(request, error.status, error.text or error.reason)
    except UserError as error:
        return _refusal(request, 400, str(error))
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _refusal(request, 500, "the server failed at this; its terminal has the cause")


def _refusal(request: web.Request, status: int, text: str) -> web.Response:
    if request.path.startswith("/api/"):
        return web.json_response({"error": visible(text)}, status=status)
    return web.Response(text=f"{visible(text)}\n", status=status)


def _guard(access: Access) -> Middleware:
    """Returns the middleware that refuses clients that may not ask."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if access.hosts and _host_name(request) not in access.hosts:
            raise web.HTTPForbidden(
                text=f"this server is not {request.host[:100]!r}, expected localhost in the address"
            )
        if access.token is not None:
            given = request.query.get("token")
            if request.path == "/" and given is not None and _is_equal(given, access.token):
                raise _with_cookie(request, access.token)
            if not _is_equal(request.cookies.get(_cookie(request), ""), access.token):
                raise web.HTTPForbidden(
                    text="the token is wrong or missing: open the whole address that the server "
                    "has printed, up to its end"
                )
        if request.method not in ("GET", "HEAD") and not _is_own_page(request):
            raise web.HTTPForbidden(text="only a page of this server may send this")
        return await handler(request)

    return guard


def _host_name(request: web.Request) -> str | None:
    """Returns the name in the address, without the port: a tunnel may have another."""
    try:
        return URL(f"http://{request.host}").host
    except ValueError:
        return None


def _is_equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _cookie(request: web.Request) -> str:
    """Returns the name of the cookie; a browser does not tell servers on two ports apart."""
    port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
    return f"keisei-ray-{port}"


def _with_cookie(request: web.Request, token: str) -> web.HTTPFound:
    """Returns the answer that makes the browser keep the token and takes it out of the address."""
    found = web.HTTPFound("/")
    found.set_cookie(_cookie(request), token, httponly=True, samesite="Lax", path="/")
    return found


def _is_own_page(request: web.Request) -> bool:
    """Whether a page of this server sends JSON; a browser adds Origin to every POST."""
    origin = request.headers.get("Origin")
    return request.content_type == "application/json" and (
        origin is None or origin.partition("://")[2] == request.host
    )
