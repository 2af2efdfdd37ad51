"""A JSON lines file that stays readable whatever happens to the process that writes it.

Each record is one line, written by one call and handed to the system at once. A file ends in a
whole line whatever happened: a line cut short by a full disk is removed at once, one cut short by a
crash is removed when the file is opened again.

On a resume, records beyond the resumed timestep belong to plies that will be played again. They
are moved to `<name>.superseded`, so that a file's timestep never goes back and no game is in it
twice.
"""

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from keisei_ray.config.json_text import parse_json
from keisei_ray.errors import RunDirError
from keisei_ray.storage.append_file import AppendFile
from keisei_ray.storage.run_layout import SUPERSEDED

logger = logging.getLogger(__name__)

_BLOCK: Final = 1 << 20
"""Bytes read at once from the end of a file."""


def encode(record: Mapping[str, object]) -> bytes:
    """Encodes one record as a JSON line; NaN and infinities become null.

    Raises:
        TypeError: a value is not of JSON's types.
    """
    finite = {key: _finite(value) for key, value in record.items()}
    return json.dumps(finite, allow_nan=False, separators=(", ", ": ")).encode("ascii") + b"\n"


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return value


class JsonLinesWriter:
    """Appends records to a JSON lines file. A file has one writer, used by one thread."""

    def __init__(self, path: Path, *, resumed_timestep: int | None, is_cut: bool = True) -> None:
        """Opens the file for appending.

        Args:
            path: the file; its directory exists.
            resumed_timestep: None for a fresh run: the file must not hold anything yet.
                Otherwise the timestep of the checkpoint that the run goes on from.
            is_cut: whether records beyond `resumed_timestep` are moved to `<name>.superseded`.

        Raises:
            RunDirError: the file has content though the run is fresh, or cannot be written.
        """
        self.path = path
        try:
            if path.exists() and path.stat().st_size:
                if resumed_timestep is None:
                    raise RunDirError(
                        f"{path} holds records of another run, expected a new run directory. "
                        "Choose another --run-dir, or continue that run with --resume latest."
                    )
                _mend(path, resumed_timestep if is_cut else None)
            self._file = AppendFile(path)
        except OSError as error:
            raise RunDirError(f"{path} cannot be written: {error}. Check the disk.") from error

    def append(self, record: Mapping[str, object]) -> None:
        """Writes one record.

        Raises:
            OSError: it could not be written; the file is as it was before.
            TypeError: a value is not of JSON's types.
        """
        self.append_line(encode(record))

    def append_line(self, line: bytes) -> None:
        """Writes one encoded record.

        Raises:
            OSError: it could not be written; the file is as it was before.
        """
        self._file.append(line)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def last_timestep(path: Path) -> int:
    """Returns the timestep of the last record that has one; 0 if there is none, or no file.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.exists():
        return 0
    for line in _lines_backwards(path, _last_line_end(path, path.stat().st_size)):
        timestep = _timestep_of(line)
        if timestep != math.inf:
            return int(timestep)
    return 0


def _mend(path: Path, timestep: int | None) -> None:
    """Removes a half-written last line; moves records beyond `timestep`, if given, elsewhere."""
    size = path.stat().st_size
    whole = _last_line_end(path, size)
    keep = whole if timestep is None else _end_up_to(path, whole, timestep)
    if whole < size:
        logger.warning("%s: %d bytes of a half-written line removed", path, size - whole)
    with path.open("r+b") as file:
        if keep < whole:
            file.seek(keep)
            tail = file.read(whole - keep)
            aside = path.with_name(f"{path.name}.{SUPERSEDED}")
            with aside.open("ab") as other:
                other.write(tail)
                other.flush()
                os.fsync(other.fileno())
            count = tail.count(b"\n")
            logger.warning("%s: %d records after %s moved to %s", path, count, timestep, aside.name)
        file.truncate(keep)


def _last_line_end(path: Path, size: int) -> int:
    """Returns the offset behind the last newline within `size` bytes; 0 if there is none."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _end_up_to(path: Path, whole: int, timestep: int) -> int:
    """Returns the offset behind the last record of at most `timestep`, looking from the end."""
    end = whole
    for line in _lines_backwards(path, whole):
        if _timestep_of(line) <= timestep:
            return end
        end -= len(line)
    return 0


def _lines_backwards(path: Path, end: int) -> Iterator[bytes]:
    """Yields the whole lines of the first `end` bytes, newlines included, last line first."""
    with path.open("rb") as file:
        rest = b""
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            lines = (file.read(end - start) + rest).splitlines(keepends=True)
            if start > 0:
                rest = lines.pop(0)
            yield from reversed(lines)
            end = start


def _timestep_of(line: bytes) -> float:
    """Returns a record's timestep; infinity for a line that is no record, so that it is moved."""
    try:
        record = parse_json(line)
    except ValueError:
        return math.inf
    value = record.get("timestep") if isinstance(record, dict) else None
    return value if isinstance(value, int) else math.inf
