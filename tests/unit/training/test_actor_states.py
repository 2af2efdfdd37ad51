"""Which states a checkpoint holds, and which of them an actor can play on from."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.actor_state import (
    ActorState,
    GameInPlay,
    GamesState,
    PairingState,
    pack_state,
    read_states,
)
from keisei_ray.rollouts.rollout import RolloutHeader
from keisei_ray.storage.run_layout import ACTORS_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport
from keisei_ray.training.actor_states import ActorStates
from tests.helpers.tiny import N, T, tiny_config


def state(actor_id: int, sequence: int, incarnation: int = 0, **changes: Any) -> ActorState:
    games = tuple(GameInPlay(index, "", 0, b"") for index in range(N))
    pairing = PairingState(("",) * N, (0,) * N)
    found = ActorState(actor_id, incarnation, sequence, 0, 60, GamesState(N, games), pairing)
    return replace(found, **changes)


def report(actor_id: int, sequence: int, incarnation: int = 0) -> CollectReport:
    """Returns the report on a rollout; the state after it counts that rollout too."""
    header = RolloutHeader(actor_id, incarnation, sequence, 0, T, N)
    after = pack_state(state(actor_id, sequence + 1, incarnation))
    return CollectReport(header, (), T * N, 1.0, 0, 0, 0.0, "", "", state=after)


def file_of(*reports: CollectReport, **incarnations: int) -> bytes:
    states = ActorStates(None)
    states.consume(reports)
    newest = {r.header.actor_id: r.header.incarnation for r in reports}
    return states.files(newest | {int(k[1:]): v for k, v in incarnations.items()})[ACTORS_FILE]


def test_a_checkpoint_holds_the_state_after_each_actors_newest_consumed_rollout() -> None:
    found = read_states(file_of(report(1, 5), report(0, 3), report(1, 4)))
    assert {i: s.sequence for i, s in found.items()} == {0: 4, 1: 6}


def test_games_of_an_incarnation_that_has_died_are_lost() -> None:
    assert set(read_states(file_of(report(0, 3), report(1, 5), a0=1))) == {1}


def test_a_state_that_no_actor_has_taken_yet_stays_in_later_checkpoints() -> None:
    """An actor that waits for a node plays on once there is one."""
    states = ActorStates(file_of(report(0, 3), report(1, 5)))
    assert states.take(0) == state(0, 4)
    assert states.take(0) is None
    assert set(read_states(states.files({0: 0, 1: 0})[ACTORS_FILE])) == {0, 1}


def progress_after(*reports: CollectReport) -> Progress:
    progress = Progress()
    for one in reports:
        progress.consume([one.header], [])
    return progress


def two_actors(**self_play: Any) -> Config:
    return tiny_config(
        self_play={"num_actors": 2} | self_play, schedule={"rollouts_per_update": None}
    )


REPORTS = report(0, 3), report(1, 5)


@pytest.mark.parametrize(
    ("config", "missing", "counted", "notice"),
    [
        (two_actors(), [], REPORTS, None),
        (two_actors(num_actors=3), [], REPORTS, None),
        (
            two_actors(num_actors=1),
            [],
            REPORTS,
            "1 of 2 actors are not kept: this run has 1 self-play actors",
        ),
        (
            two_actors(games_per_actor=8),
            [],
            REPORTS,
            f"2 of 2 actors are not kept: self_play.games_per_actor = 8, before it was {N}",
        ),
        (
            two_actors(max_plies=80),
            [],
            REPORTS,
            "2 of 2 actors are not kept: self_play.max_plies = 80, before it was 60",
        ),
        (
            two_actors(),
            ["v3"],
            REPORTS,
            "2 of 2 actors are not kept: v3 is no longer in the opponent pool",
        ),
        (
            two_actors(),
            [],
            (report(0, 3), report(1, 6)),
            "1 of 2 actors are not kept: they do not follow the rollouts that are counted",
        ),
    ],
)
def test_what_a_resumed_run_cannot_keep_is_dropped_and_said(
    config: Config, missing: list[str], counted: tuple[CollectReport, ...], notice: str | None
) -> None:
    states = ActorStates(file_of(*REPORTS))
    pool: Any = SimpleNamespace(missing=lambda state: missing)
    said = [n.message for n in states.drop_unfit(config, progress_after(*counted), pool)]
    assert said == ([f"games in play of {notice}"] if notice else [])
    dropped = int(notice.split()[0]) if notice else 0
    assert sum(states.take(actor_id) is None for actor_id in (0, 1)) == dropped
    assert len(read_states(states.files({0: 0, 1: 0})[ACTORS_FILE])) == 2 - dropped
