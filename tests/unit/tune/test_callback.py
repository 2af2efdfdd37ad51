"""Notices of a sweep while no trial has room on the cluster."""

from collections.abc import Callable
from types import SimpleNamespace as Record

import pytest
from rich.console import Console

from keisei_ray.tune import callback as module
from keisei_ray.tune.callback import SweepCallback


class Room:
    """A notice that keeps what it is told."""

    def __init__(self, publish: Callable[[str], object], *, clock: object) -> None:
        self.told: list[str | None] = []

    def poll(self, asks: str | None) -> None:
        self.told.append(asks)


def told(monkeypatch: pytest.MonkeyPatch, asks: str | None, *statuses: str) -> list[str | None]:
    """Returns what the notice is told in one round with trials in these states."""
    monkeypatch.setattr(module, "RoomNotice", Room)
    follower = SweepCallback("sps", Console(quiet=True), lambda: False, 1000, asks)
    follower.on_step_begin(0, [Record(status=status) for status in statuses])
    assert isinstance(follower._room, Room)
    return follower._room.told


@pytest.mark.parametrize("statuses", [("PENDING", "PENDING"), ("ERROR", "PENDING"), ()])
def test_a_sweep_waits_while_no_trial_has_begun(
    statuses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(monkeypatch, "2 CPUs", *statuses) == ["2 CPUs"]


@pytest.mark.parametrize("status", ["RUNNING", "TERMINATED"])
def test_a_sweep_with_a_trial_that_has_begun_does_not_wait(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(monkeypatch, "2 CPUs", status, "PENDING") == [None]


def test_nothing_is_looked_for_on_a_cluster_of_the_sweeps_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert told(monkeypatch, None, "PENDING") == []
