"""Answers as JSON that every browser reads: a number that is not finite becomes null."""

import json
import math
from typing import Any

from aiohttp import web


def json_text(data: object) -> str:
    """Returns JSON types as a text in ASCII."""
    try:
        return json.dumps(data, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))


def json_answer(data: object) -> web.Response:
    """Returns an answer with JSON types."""
    return web.json_response(text=json_text(data))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
