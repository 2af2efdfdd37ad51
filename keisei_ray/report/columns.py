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


def read_columns(reader: JsonLinesReader, names: Sequence[str]) -> Columns:
    """Reads the records' numbers, one array for each name, in the order of the file.

    A record without a timestep, or with one that is not greater than all before it, cannot be
    drawn: it is left out and counted as damaged.

    Args:
        reader: the file.
        names: keys of a record; "timestep" is one of them.

    Raises:
        RunDirError: the file exists and cannot be read.
    """
    rows = array("d")
    timestep_index, newest = names.index("timestep"), -math.inf
    for record in reader:
        row = [finite_or_nan(value) for value in map(record.get, names)]
        if not row[timestep_index] > newest:
            reader.damaged += 1
            continue
        newest = row[timestep_index]
        rows.extend(row)
    table = np.frombuffer(rows, dtype=np.float64).reshape(-1, len(names))
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}


def finite_or_nan(value: object) -> float:
    """Returns a number up to MAX_DRAWN as float, and NaN for anything else that JSON can hold."""
    if type(value) is float:  # Nearly all of millions of values: the fast path.
        return value if -MAX_DRAWN <= value <= MAX_DRAWN else math.nan
    return float(value) if type(value) is int and abs(value) <= MAX_DRAWN else math.nan
