"""Reading JSON lines that somebody may still be writing.

A last line without its newline is being written, or was cut by a crash: it is left out. Any
other line that cannot be read is left out and counted, so that a page can say so.
"""

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keisei_ray.errors import RunDirError

Record: TypeAlias = dict[str, Any]
Columns: TypeAlias = Mapping[str, npt.NDArray[np.float64]]
"""Name -> [U] values, NaN where a record has no finite number."""


class JsonLinesReader:
    """The records of one file, each once: iterating again gives those that were added since.

    Attributes:
        damaged: lines left out so far because they are no JSON object, or because whoever reads
            the records refused one.
    """

    def __init__(self, path: Path) -> None:
        """Reads `path` when iterated; a file that does not exist has no records."""
        self.path = path
        self.damaged = 0
        self._offset = 0

    @property
    def is_cut(self) -> bool:
        """Whether the file has lost records that were read, so that `rewind` is called for."""
        try:
            return self.path.stat().st_size < self._offset
        except OSError:
            return self._offset > 0

    def rewind(self) -> None:
        """Reads from the file's beginning again, next time."""
        self.damaged = self._offset = 0

    def __iter__(self) -> Iterator[Record]:
        """The records in the file's order.

        Raises:
            RunDirError: the file exists and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._offset += len(line)
                    if (record := self._parse(line)) is not None:
                        yield record
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunDirError(f"{self.path} cannot be read: {error.strerror}.") from error

    def _parse(self, line: bytes) -> Record | None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            self.damaged += 1
            return None
        return record


def read_columns(reader: JsonLinesReader, names: Sequence[str]) -> Columns:
    """The records' numbers, one array a name, in the order of the file.

    Records without a timestep, or with one that is not greater than all before it, are left out
    and counted as damaged: nothing could be drawn over them.

    Raises:
        RunDirError: as `JsonLinesReader`.
    """
    rows = array("d")
    at, newest = names.index("timestep"), -math.inf
    for record in reader:
        row = [number(value) for value in map(record.get, names)]
        if not row[at] > newest:
            reader.damaged += 1
            continue
        newest = row[at]
        rows.extend(row)
    table = np.frombuffer(rows, dtype=np.float64).reshape(-1, len(names))
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}


def number(value: object) -> float:
    """A finite number as float; NaN for anything else that JSON can hold."""
    if type(value) is float:  # Nearly all of millions: the quick way out.
        return value if math.isfinite(value) else math.nan
    if type(value) is not int:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
