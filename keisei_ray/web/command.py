"""The command `web`: serves the pages until Ctrl-C."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from keisei_ray.errors import ConfigError
from keisei_ray.storage.remote.filesystem import is_uri
from keisei_ray.web.keys import READER
from keisei_ray.web.remote_copies import RemoteCopies
from keisei_ray.web.server import LOOPBACK, Access, application
from keisei_ray.web.shown_runs import ShownRuns

DEFAULT_PORT: Final = 8765
SHUTDOWN_S: Final = 1.0
"""Seconds that requests under way get at the end."""
LOWEST_PRIORITY: Final = 19
_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class WebOptions:
    """Command line of `web`."""

    runs: Sequence[str] = ()
    """Directories of runs, or with runs in them, or URIs of runs; none: `runs/`."""
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0: any that is free."""
    is_opened: bool = False
    """Whether to open a browser."""


def serve(options: WebOptions) -> int:
    """Serves the pages until Ctrl-C or SIGTERM and returns the exit code.

    Raises:
        RunDirError: a directory that was named has no run.
        StorageError: a URI cannot be read.
        ConfigError: the address cannot be listened at.
    """
    os.nice(LOWEST_PRIORITY)
    access = access_for(options.host)
    threads = threading.enumerate()
    try:
        with _shown(options.runs) as runs:
            asyncio.run(_serve(application(runs, access), options, access))
    finally:
        _leave_stuck_threads(threads)
    return 0


@contextlib.contextmanager
def _shown(named: Sequence[str]) -> Iterator[ShownRuns]:
    """Provides the runs that are shown, those at URIs as copies that follow them."""
    if not any(map(is_uri, named)):
        yield ShownRuns(named)
        return
    with tempfile.TemporaryDirectory(prefix="keisei-ray-web-", ignore_cleanup_errors=True) as place:
        copies = RemoteCopies(Path(place))
        paths = [str(copies.add(name)) if is_uri(name) else name for name in named]
        runs = ShownRuns(paths, copies.uris)
        copies.follow()
        try:
            yield runs
        finally:
            copies.end()


def access_for(host: str) -> Access:
    """Returns who may ask a server that listens at `host`."""
    if host in LOOPBACK:
        return Access(LOOPBACK, None)
    return Access(frozenset(), secrets.token_urlsafe(16))


async def _serve(app: web.Application, options: WebOptions, access: Access) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        port = await _listen(runner, options)
        url = address(options.host, port, access.token)
        sys.stdout.write(f"{url}\nCtrl-C ends the server; runs go on.\n")
        sys.stdout.flush()
        if options.is_opened:
            with contextlib.suppress(webbrowser.Error):
                await asyncio.to_thread(webbrowser.open, url)
        await stop.wait()
        # A second time ends the process at once, whatever still hangs.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, os._exit, _INTERRUPTED)
    finally:
        await runner.cleanup()
        app[READER].shutdown(wait=False, cancel_futures=True)


async def _listen(runner: web.AppRunner, options: WebOptions) -> int:
    """Begins to listen and returns the port.

    Raises:
        ConfigError: the port is taken, or the address is not one of this machine.
    """
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        where = f"{options.host}:{options.port}"
        # asyncio's text repeats the address, and a name that is not found has no such number.
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise ConfigError(
            f"web cannot listen at {where}: {why}. Choose another port with --port (0: any that "
            "is free), or another address of this machine with --host."
        ) from error
    port: int = runner.addresses[0][1]
    return port


def address(host: str, port: int, token: str | None) -> str:
    """Returns the URL of the pages; of a server that listens everywhere with the machine's name."""
    name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _leave_stuck_threads(before: Sequence[threading.Thread]) -> None:
    """Ends the process where a thread still works, which Python would wait for at its end.

    Args:
        before: threads that were there before the server.
    """
    others = [thread for thread in threading.enumerate() if thread not in before]
    for thread in others:
        thread.join(SHUTDOWN_S)
    if any(thread.is_alive() and not thread.daemon for thread in others):
        sys.stdout.flush()
        os._exit(0)
