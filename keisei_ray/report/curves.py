"""Reduction of many records to as many points as a chart can show, with the extremes kept.

U: records. P: points, P <= limit.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_POINTS: Final = 300
"""Maximum number of points of a curve: about one for every two pixels of a chart."""


@dataclass(frozen=True)
class Curve:
    """Values over timesteps."""

    x: Floats
    """[P] timestep of each point: that of the last record behind it."""
    mean: Floats
    """[P] mean of the records that have a value; NaN where none has one."""
    low: Floats
    """[P] least value of these records."""
    high: Floats
    """[P] greatest value of these records."""
    records_per_point: int = 1
    """Maximum number of records behind a point; 1 where nothing was thinned out."""
    first: float = math.nan
    """Value of the first record that has one; NaN where none has."""
    last: float = math.nan
    """Value of the last record that has one; NaN where none has."""

    @property
    def is_thinned(self) -> bool:
        """Whether points stand for several records."""
        return self.records_per_point > 1


def thin_out(x: Floats, y: Floats, limit: int = MAX_POINTS) -> Curve:
    """Returns a curve of at most `limit` points: mean, least and greatest of consecutive records.

    Every record is behind one point, so the least and the greatest value of the curve are those
    of `y`. With no more than `limit` records every point is a record.

    Args:
        x: [U] timesteps, increasing.
        y: [U] values, NaN where there is none.
        limit: maximum number of points, >= 1.
    """
    count = len(x)
    size = max(1, -(-count // limit))
    starts = np.arange(0, count, size)
    present = np.isfinite(y)
    if not present.any():
        return Curve(x[:0], y[:0], y[:0], y[:0])
    first, last = float(y[present][0]), float(y[present][-1])
    if size == 1:
        return Curve(x, y, y, y, 1, first, last)
    filled = np.add.reduceat(np.where(present, y, 0.0), starts)
    counts = np.add.reduceat(present.astype(np.float64), starts)
    empty = counts == 0
    mean = np.where(empty, np.nan, filled / np.maximum(counts, 1.0))
    low = np.minimum.reduceat(np.where(present, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(present, y, -np.inf), starts)
    low, high = np.where(empty, np.nan, low), np.where(empty, np.nan, high)
    ends = np.minimum(starts + size, count) - 1
    return Curve(x[ends], mean, low, high, size, first, last)


def sparse(values: Floats, limit: int) -> npt.NDArray[np.intp]:
    """Returns the indices of at most `limit` records, the first, the last and extremes among them.

    For records that must not be averaged, such as measurements that have intervals: from each
    stretch of records the one with the least and the one with the greatest value stay.

    Args:
        values: [U] without NaN.
        limit: maximum number of indices, >= 4.
    """
    count = len(values)
    if count <= limit:
        return np.arange(count)
    stretches = np.array_split(np.arange(count), limit // 2 - 1)
    kept = {0, count - 1}
    for stretch in stretches:
        kept.add(int(stretch[np.argmin(values[stretch])]))
        kept.add(int(stretch[np.argmax(values[stretch])]))
    return np.array(sorted(kept), dtype=np.intp)


def shares(x: Floats, counts: Floats, edges: Floats) -> Floats:
    """Returns the share of each kind among the events of every stretch of timesteps.

    Args:
        x: [U] timesteps.
        counts: [U, K] events by kind at each timestep.
        edges: [P + 1] increasing; stretch i is (edges[i], edges[i + 1]].

    Returns:
        [P, K] in [0, 1]; each row adds up to 1, and is NaN in a stretch without events.
    """
    place = np.searchsorted(edges, x, side="left") - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    sums = np.zeros((len(edges) - 1, counts.shape[1]))
    np.add.at(sums, place[inside], counts[inside])
    totals = sums.sum(axis=1, keepdims=True)
    result: Floats = np.full_like(sums, np.nan)
    np.divide(sums, totals, out=result, where=totals > 0)
    return result


def with_intervals(x: Floats, y: Floats, low: Floats, high: Floats) -> Curve:
    """Returns a curve of measured points, each with its interval.

    Args:
        x: [U] timesteps, increasing; U >= 1.
        y: [U] values without NaN.
        low: [U] lower ends, NaN where open.
        high: [U] upper ends.
    """
    return Curve(x, y, low, high, 1, float(y[0]), float(y[-1]))
