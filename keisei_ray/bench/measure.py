"""One measured figure, and how a rate is measured against a plain loop."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    what: str
    """Description of the figure."""
    value: float
    unit: str
    bare: float | None = None
    """Value of the plain loop in the same run, in the same unit."""
    ratio: float | None = None
    """Median over the rounds of value / bare."""
    budget: float | None = None
    """Limit on `ratio`, or on `value` where there is no ratio."""
    budget_is: Literal["at least", "at most"] = "at least"

    @property
    def is_met(self) -> bool | None:
        """Whether the budget is met; None without a budget."""
        if self.budget is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return judged >= self.budget if self.budget_is == "at least" else judged <= self.budget

    @property
    def budget_text(self) -> str:
        """Text of the budget for a table."""
        sign = ">=" if self.budget_is == "at least" else "<="
        return "" if self.budget is None else f"{sign} {self.budget:,g}"


def rate(work: Callable[[], int], seconds: float) -> float:
    """Returns units of work a second, measured over at least `seconds`.

    Args:
        work: does some work and returns the number of units done.
        seconds: duration of the measurement.
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
    """Measures the rates of two loops in alternation, after one unmeasured call of each.

    Args:
        real: the code to measure; returns the number of units done.
        bare: the least work that gives as many units; returns their number.
        seconds: duration of each measurement.
        rounds: number of measurements of each loop.

    Returns:
        Median rate of the real loop, median rate of the plain loop, median ratio of the rounds.
    """
    real()
    bare()
    pairs = [(rate(real, seconds), rate(bare, seconds)) for _ in range(rounds)]
    return (
        statistics.median(r for r, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(r / b for r, b in pairs),
    )
