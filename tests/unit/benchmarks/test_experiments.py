"""The design behind the screen of settings: what its table says is what was in the data."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.scripts import load_script

SCRIPTS = Path(__file__).parents[3] / "benchmarks" / "scripts"
FACTORS = {f"factor {i}": [[], [f"learner.num_epochs={i + 5}"]] for i in range(22)}


@pytest.fixture(scope="module")
def experiments() -> ModuleType:
    """The script, which imports its neighbor by name as a script does."""
    return load_script(SCRIPTS / "experiments.py")


def test_every_factor_is_high_in_half_of_the_runs_and_no_two_go_together(
    experiments: ModuleType,
) -> None:
    levels = [trial.levels for trial in experiments.screen(FACTORS)]
    assert len(levels) == 48
    for one in FACTORS:
        assert sum(row[one] for row in levels) == 0
        for other in FACTORS:
            together = sum(row[one] * row[other] for row in levels)
            assert together == (48 if one == other else 0)


def test_an_effect_is_clear_of_every_interaction_of_two(experiments: ModuleType) -> None:
    levels = [trial.levels for trial in experiments.screen(FACTORS)]
    for one in FACTORS:
        products = (row[one] * row["factor 3"] * row["factor 8"] for row in levels)
        assert sum(products) == 0


def test_the_table_gives_back_the_effects_that_made_the_scores(experiments: ModuleType) -> None:
    records = []
    for trial in experiments.screen(FACTORS):
        score = 0.5 + 0.10 * trial.levels["factor 3"] - 0.02 * trial.levels["factor 20"]
        records.append(
            {"levels": trial.levels, "scores": {"bare": {"score": score}}, "cpu_s": 60.0}
        )
    lines = [line.strip("| ") for line in experiments.effects_table(records)]
    rows = dict(line.split(" | ", 1) for line in lines if " | " in line)
    assert rows["factor 3"] == "+0.20 | +0"
    assert rows["factor 20"] == "-0.04 | +0"
    assert rows["factor 7"] in ("+0.00 | +0", "-0.00 | +0", "+0.00 | -0", "-0.00 | -0")
    assert rows["standard deviation of an effect"] == "0.00 | 0"


def test_more_factors_than_columns_are_refused(experiments: ModuleType) -> None:
    many: dict[str, list[list[str]]] = {f"factor {i}": [[], []] for i in range(24)}
    with pytest.raises(ValueError, match="24 factors, expected at most 23"):
        list(experiments.screen(many))


def test_the_table_of_changes_has_a_line_for_each_stage_of_a_trial(
    experiments: ModuleType,
) -> None:
    records = [
        {"name": name, "timestep": 1000 * stage, "entropy": 2.0, "cpu_s": 60.0}
        | {"scores": {"bare": {"score": 0.1 * stage + 0.02 * seed}}}
        for name in ("one", "other")
        for seed in (1, 3)
        for stage in (1, 2)
    ]
    lines = list(experiments.changes_table(records))
    assert lines[2] == "| one | 1,000 | 2 | 0.14 (0.12-0.16) | 2.00 | 60 |"
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| one", "1,000"],
        ["| one", "2,000"],
        ["| other", "1,000"],
        ["| other", "2,000"],
    ]
