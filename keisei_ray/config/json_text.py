"""Parsing of JSON from files of unknown origin: within limits, with one kind of error.

The directory of a run may have been written by any user. `parse_json` refuses what the rest of the
program could not calculate with, and `read_json` refuses a file that is far larger than any that
this program writes, before it is in memory. What the values mean is for the caller to check.
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

MAX_FILE_BYTES: Final = 16 << 20
"""Largest file that `read_json` reads. A run's settings take about 5 KB."""
MAX_INTEGER: Final = (1 << 63) - 1
"""Largest absolute value of an integer. A larger one would not even convert to a float."""


_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER: Final = b"0" * 19
"""The shortest integer beyond 64 bits, with zeros for its digits."""


def parse_json(text: str | bytes) -> Any:
    """Parses a JSON text.

    Raises:
        ValueError: not JSON, nested too deeply, or an integer beyond 64 bits.
    """
    # A line of metrics.jsonl takes pydantic's parser 4 us, and json with its callback 16 us (two
    # busy cores, 2026-11-26). Where it refuses a text, as half a surrogate pair, json decides.
    if isinstance(text, bytes) and _LONG_NUMBER not in text.translate(_DIGITS_AS_ZERO):
        try:
            return from_json(text)
        except ValueError:
            pass
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_unicode(tree: Any) -> None:
    """Refuses text that no file can hold, as JSON and YAML can write it: half a surrogate pair.

    Args:
        tree: of dict, list and scalars.

    Raises:
        ValueError: a key or value has such text.
    """
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!a} is not a character") from error


def read_json(file: Path, most_bytes: int = MAX_FILE_BYTES) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: longer than `most_bytes`, or as `parse_json`.
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is longer than {most_bytes} bytes")
    return parse_json(content)


def _integer(digits: str) -> int:
    """Converts an integer, unless it is beyond 64 bits."""
    number = int(digits) if len(digits) <= len(str(-MAX_INTEGER)) else MAX_INTEGER + 1
    if abs(number) > MAX_INTEGER:
        raise ValueError(f"the integer {digits[:30]} is beyond 64 bits")
    return number
