"""Columns of numbers from the records of a JSON lines file, for charts."""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from keisei_ray.storage.json_lines import JsonLinesReader

Columns: TypeAlias = Mapping[str, npt.NDArray[np.float64]]
"""Name -> [U] values, NaN where a record has no finite number."""
MAX_DRAWN: Final = 1e100
"""Largest absolute value of a number that is drawn: an axis needs room for sums and powers."""


class GrowingColumns:
    """Numbers of a file's records, one column for each name, in the order of the file.

    A record without a timestep, or with one that is not greater than all before it, cannot be
    drawn: it is left out and counted as damaged.
    """

    def __init__(self, reader: JsonLinesReader, names: Sequence[str]) -> None:
        """Reads nothing yet.

        Args:
            reader: the file.
            names: keys of a record; "timestep" is one of them.
        """
        self._reader = reader
        self._names = tuple(names)
        self._rows = array("d")
        self._newest = -math.inf

    def read(self) -> Columns:
        """Reads what the file has gained, and returns copies of all columns.

        Raises:
            RunDirError: the file exists and cannot be read.
        """
        timestep_index = self._names.index("timestep")
        for record in self._reader:
            row = [finite_or_nan(value) for value in map(record.get, self._names)]
            if not row[timestep_index] > self._newest:
                self._reader.damaged += 1
                continue
            self._newest = row[timestep_index]
            self._rows.extend(row)
        table = np.frombuffer(self._rows, dtype=np.float64).reshape(-1, len(self._names))
        return {name: table[:, i].copy() for i, name in enumerate(self._names)}


def finite_or_nan(value: object) -> float:
    """Returns a number up to MAX_DRAWN as float, and NaN for anything else that JSON can hold."""
    if type(value) is float:  # Nearly all of millions of values: the fast path.
        return value if -MAX_DRAWN <= value <= MAX_DRAWN else math.nan
    return float(value) if type(value) is int and abs(value) <= MAX_DRAWN else math.nan
