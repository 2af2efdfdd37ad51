"""One warning per collapse, none for a healthy run, another only after a recovery."""

from collections.abc import Iterable

import numpy as np
import pytest

from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.events import Event, Notice, UpdateDiagnosed
from keisei_ray.tracking.collapse_alarm import WINDOW, CollapseAlarm
from tests.helpers.run_events import diagnosed

State = tuple[float, float, float]
"""Mean length of games, entropy, fraction of distinct positions."""
EARLY: State = (290, 3.4, 0.97)
FINISHING: State = (150, 2.2, 0.95)
STRONG: State = (90, 1.5, 0.92)
COLLAPSED: State = (18, 0.13, 0.2)


def observed(length: float | None, entropy: float, distinct: float) -> Diagnostics:
    return diagnosed(
        0,
        distinct_positions=distinct,
        game_length_mean=length,
        games=0 if length is None else 20,
        entropy=entropy,
    ).diagnostics


def between(start: State, end: State, updates: int, seed: int = 0) -> list[Diagnostics]:
    """From one state to another, with noise of a fifth."""
    rng = np.random.default_rng(seed)
    states = []
    for share in np.linspace(0, 1, updates):
        noise = rng.uniform(0.8, 1.2, 2)
        length, entropy, distinct = (
            (1 - share) * a + share * b for a, b in zip(start, end, strict=True)
        )
        states.append(observed(length * noise[0], entropy * noise[1], distinct))
    return states


def warnings(updates: Iterable[Diagnostics]) -> list[Notice]:
    published: list[Event] = []
    alarm = CollapseAlarm(published.append)
    for update in updates:
        alarm.handle(UpdateDiagnosed(update))
    assert all(isinstance(event, Notice) and event.level == "WARNING" for event in published)
    return published  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_left_alone(seed: int) -> None:
    run = between(EARLY, FINISHING, 60, seed) + between(FINISHING, STRONG, 200, seed)
    assert warnings(run) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_collapse_causes_one_warning(seed: int) -> None:
    run = between(EARLY, FINISHING, 50, seed) + between(FINISHING, COLLAPSED, 30, seed)
    (warning,) = warnings(run + between(COLLAPSED, COLLAPSED, 100, seed))
    assert "self-play has collapsed" in warning.message


def test_the_warning_comes_soon() -> None:
    run = between(EARLY, FINISHING, 50) + between(COLLAPSED, COLLAPSED, WINDOW)
    assert len(warnings(run)) == 1


@pytest.mark.parametrize(
    "state",
    [
        (18, 1.5, 0.95),  # Short games, but different ones.
        (150, 0.1, 0.95),  # Sure of its moves, in long and different games.
        (150, 2.0, 0.3),  # Few positions, as from one start without a random opening.
    ],
)
def test_one_sign_alone_is_not_a_collapse(state: State) -> None:
    assert warnings(between(EARLY, EARLY, 30) + between(state, state, 100)) == []


@pytest.mark.parametrize("state", [(18, 0.13, 0.95), (150, 0.13, 0.2)])
def test_low_entropy_with_either_other_sign_is_a_collapse(state: State) -> None:
    assert len(warnings(between(EARLY, EARLY, 30) + between(state, state, 100))) == 1


def test_a_recovery_allows_another_warning_and_a_run_at_the_limit_gets_none() -> None:
    down = between(COLLAPSED, COLLAPSED, 30)
    edge: State = (18, 0.55, 0.2)
    assert len(warnings(between(EARLY, EARLY, 30) + down + between(edge, edge, 30) + down)) == 1
    again = between(EARLY, EARLY, 30) + down + between(FINISHING, FINISHING, 30) + down
    assert len(warnings(again)) == 2


def test_updates_in_which_no_game_ends_neither_alarm_nor_disturb() -> None:
    silent = [observed(None, 3.0, 1.0)] * 40
    assert warnings(silent) == []
    run = silent + between(EARLY, EARLY, 20) + between(COLLAPSED, COLLAPSED, 40)
    assert len(warnings(run)) == 1
