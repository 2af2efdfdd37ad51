"""Answers about games against a run's network."""

from aiohttp import web


def add_routes(app: web.Application) -> None:
    """Adds the addresses of this module."""
    del app
