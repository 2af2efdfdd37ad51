"""Reader of a JSON lines file that another process may still be writing.

A last line without its newline is still being written, or was cut off by a crash: it is left out.
Any other line that cannot be read is left out and counted, so that a page can report it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from keisei_ray.config.json_text import parse_json
from keisei_ray.errors import RunDirError

Record: TypeAlias = dict[str, Any]
"""One line: a JSON object."""
MAX_LINE_BYTES: Final = 1 << 20
"""Longest line that is read; one beyond it is damaged. The moves of a game take up to 25 KB."""
TAIL_BYTES: Final = 1 << 16
"""Bytes at the end of a file in which its last record is looked for."""


class JsonLinesReader:
    """Records of one file, each once: iterating again gives those that were added since.

    Attributes:
        damaged: lines left out so far because they are no JSON object, or because the caller
            refused the record (the caller raises the count).
        line_start: place of the newest record in the file, for `record_at`.
    """

    def __init__(self, path: Path) -> None:
        """Reads `path` when iterated; a file that does not exist has no records."""
        self.path = path
        self.damaged = 0
        self.line_start = 0
        self._offset = 0
        self._last = b""

    @property
    def is_cut(self) -> bool:
        """Whether the file has lost records that were read, so that `rewind` is needed.

        Also where it has grown past its former size since: other bytes then precede what is read
        next.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                return file.read(len(self._last)) != self._last
        except OSError:
            return self._offset > 0

    def rewind(self) -> None:
        """Starts from the file's beginning at the next iteration."""
        self.damaged = self._offset = 0
        self._last = b""

    def __iter__(self) -> Iterator[Record]:
        """Yields the records in the file's order.

        Raises:
            RunDirError: the file exists and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                while line := file.readline(MAX_LINE_BYTES):
                    size = len(line)
                    while line and not line.endswith(b"\n"):  # A long line, piece by piece.
                        line = file.readline(MAX_LINE_BYTES)
                        size += len(line)
                    if not line:
                        return
                    self.line_start = self._offset
                    self._offset += size
                    self._last = line  # Of a long line its last piece.
                    if (record := self._parse(line, size)) is not None:
                        yield record
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunDirError(f"{self.path} cannot be read: {error.strerror}.") from error

    def record_at(self, line_start: int) -> Record | None:
        """Returns the record at a place in the file; None where there is none any more.

        Raises:
            RunDirError: the file exists and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(line_start)
                line = file.readline(MAX_LINE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunDirError(f"{self.path} cannot be read: {error.strerror}.") from error
        return _record_in(line) if line.endswith(b"\n") else None

    def _parse(self, line: bytes, size: int) -> Record | None:
        record = _record_in(line) if len(line) == size else None
        if record is None:
            self.damaged += 1
        return record


def last_record(path: Path) -> Record | None:
    """Returns the record in the last complete line of a file, without reading the file.

    None where there is no file, or the line is no record or longer than `TAIL_BYTES`.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    # What follows the last newline is not complete; what precedes the first may have been cut.
    is_whole = len(lines) > 2 or size <= TAIL_BYTES
    return _record_in(lines[-2]) if len(lines) > 1 and is_whole else None


def _record_in(line: bytes) -> Record | None:
    """Returns the JSON object of a line, None if it has none."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
