"""A short campaign with a fixed plan; `python -m tests.chaos` runs long ones with drawn plans."""

import random
from pathlib import Path

import pytest

from tests.chaos.campaign import Life, endure

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.long]

PLAN = (
    Life(
        live=(
            "kill -9 of learner and actor at once",
            "reader of standard output leaves",
            "GCS halted for 0.5 to 3 s",
        ),
        ending="kill -9 of the driver",
    ),
    Life(
        damages=("byte of the newest checkpoint changed", "config.json damaged"),
        start="standard error closed",
        live=("kill -9 of all actors",),
        ending="SIGTERM",
    ),
)


def test_a_run_goes_on_after_each_fault_with_all_its_invariants(tmp_path: Path) -> None:
    done = list(endure(tmp_path / "run", PLAN, random.Random(11)))
    assert [injected for injected in done if injected.violations] == []
    assert [(injected.life, injected.fault, injected.outcome) for injected in done] == [
        *((0, fault, "went on") for fault in PLAN[0].live),
        (0, PLAN[0].ending, "ended, -9"),
        *((1, damage, "resumed") for damage in PLAN[1].damages),
        (1, PLAN[1].start, "resumed"),
        *((1, fault, "went on") for fault in PLAN[1].live),
        (1, PLAN[1].ending, "ended, 130"),
    ]
