"""A signal ends a match and loses no game that has ended."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from keisei_ray.evaluation.stopping import stoppable


def save(plies: Iterator[list[Any]], num_games: int, saved: list[Any], *, at: str) -> None:
    """Takes the games of a match; a signal comes while the one named `at` is saved."""
    with stoppable() as stop:
        for game in stop.interrupt(plies, num_games):
            saved.append(game)
            if saved[-1] == at:
                signal.raise_signal(signal.SIGINT)


def test_games_that_ended_in_one_ply_are_all_saved() -> None:
    saved: list[Any] = []
    plies = iter([["a", "b", "c"], ["d"]])
    with pytest.raises(KeyboardInterrupt):
        save(plies, 4, saved, at="a")
    assert saved == ["a", "b", "c"]
    assert next(plies) == ["d"]


def test_a_signal_while_the_last_game_is_saved_interrupts_nothing() -> None:
    saved: list[Any] = []
    save(iter([["a"], ["b"]]), 2, saved, at="b")
    assert saved == ["a", "b"]
