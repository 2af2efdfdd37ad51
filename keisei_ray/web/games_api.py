"""Answers about the games of a run."""

from aiohttp import web


def add_routes(app: web.Application) -> None:
    """Adds the addresses of this module."""
    del app
