"""A short campaign with a fixed plan; `python -m tests.chaos` runs long ones with drawn plans."""

import random
from pathlib import Path

import pytest

from keisei_ray.status.checkpoints import list_checkpoints
from tests.chaos.campaign import Life, endure
from tests.chaos.chaos_run import ChaosRun
from tests.chaos.faults import half_written, kill_while_saving
from tests.chaos.invariants import violations

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

PLAN = (
    Life(
        live=(
            "kill -9 of learner and actor at once",
            "kill -9 of the standby process",
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


@pytest.mark.long
def test_a_kill_in_the_middle_of_saving_never_costs_the_checkpoints_before(tmp_path: Path) -> None:
    run_dir, rng = tmp_path / "run", random.Random(3)
    for number in range(2):
        begin = ChaosRun.resumed if number else ChaosRun.fresh
        run = begin(run_dir, settings=("checkpoint.standby=false",))  # It would save the run.
        try:
            run.wait_for(lambda: list_checkpoints(run_dir, 0.0, verify=False), "a checkpoint")
            run.wait_updates(2)
            kill_while_saving(run, rng)
            assert run.wait_end() == -9
        finally:
            run.destroy()
        assert len(half_written(run_dir)) == 1, "the kill did not fall into a save"
        assert violations(run_dir, must_be_saved=True) == []
        listed = list_checkpoints(run_dir, 0.0, verify=True)
        assert [found.problem for found in listed if not found.is_verified] == []
