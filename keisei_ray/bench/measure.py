"""A figure, and how a rate is measured against a bare loop."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    what: str
    value: float
    unit: str
    bare: float | None = None
    """The same unit, by the bare loop of the same run."""
    ratio: float | None = None
    """Median of the rounds' value / bare."""
    budget: float | None = None
    """Limit on `ratio` where there is one, else on `value`."""
    budget_is: Literal["at least", "at most"] = "at least"

    @property
    def is_met(self) -> bool | None:
        """Whether the budget holds; None without one."""
        if self.budget is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return judged >= self.budget if self.budget_is == "at least" else judged <= self.budget

    @property
    def budget_text(self) -> str:
        """The budget for a table."""
        sign = ">=" if self.budget_is == "at least" else "<="
        return "" if self.budget is None else f"{sign} {self.budget:,g}"


def rate(work: Callable[[], int], seconds: float) -> float:
    """Units of work a second, over at least `seconds`.

    Args:
        work: does some and returns how many units.
    """
    done = 0
    started = time.perf_counter()
    while True:
        done += work()
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return done / elapsed


def against_bare(
    real: Callable[[], int], bare: Callable[[], int], *, seconds: float, rounds: int
) -> tuple[float, float, float]:
    """Rates of two loops in alternation, after one unmeasured turn of each.

    Returns:
        Median rate of the real one, of the bare one, and the median of the rounds' ratios.
    """
    real()
    bare()
    pairs = [(rate(real, seconds), rate(bare, seconds)) for _ in range(rounds)]
    return (
        statistics.median(r for r, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(r / b for r, b in pairs),
    )
