"""A rollout counts once, however often it is delivered, over any number of resumes."""

import json
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.finished_game import FinishedGame, GameEndReason, GameResult
from keisei_ray.rollouts.rollout import RolloutHeader
from keisei_ray.telemetry.progress import Progress

RESULTS: tuple[tuple[GameResult, GameEndReason], ...] = (
    ("black_win", "mate"),
    ("white_win", "declaration"),
    ("draw", "repetition"),
    ("truncated", "max_plies"),
)


def header(
    actor_id: int = 0, incarnation: int = 0, sequence: int = 0, T: int = 4, N: int = 3
) -> RolloutHeader:
    return RolloutHeader(actor_id, incarnation, sequence, weights_version=0, T=T, N=N)


def game(
    index: int, result: int = 0, plies: int = 10, actor_id: int = 0, incarnation: int = 0
) -> FinishedGame:
    name, reason = RESULTS[result]
    return FinishedGame(
        game_id=f"{actor_id}-{incarnation}-{index}",
        actor_id=actor_id,
        incarnation=incarnation,
        index=index,
        weights_version=0,
        result=name,
        reason=reason,
        plies=plies,
        opening_plies=0,
        moves="",
    )


# A delivery: (actor, T, N, results of the games that ended in it, how often it is delivered).
deliveries = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(1, 9),
        st.integers(1, 9),
        st.lists(st.integers(0, 3), max_size=4),
        st.integers(1, 3),
    ),
    max_size=30,
)
Delivery = tuple[int, int, int, list[int], int]


def deliver(progress: Progress, head: RolloutHeader, games: list[FinishedGame]) -> None:
    """Counts a rollout as the driver does when it arrives."""
    progress.collect(head)
    if progress.is_duplicate(head):
        progress.reject_rollout(head)
    else:
        progress.consume([head], games)


@given(deliveries, st.booleans())
def test_every_timestep_and_game_counts_once_however_often_it_is_delivered(
    given_deliveries: list[Delivery], saved_each_time: bool
) -> None:
    progress = Progress()
    sequences = dict.fromkeys(range(4), 0)
    timesteps = collected = redelivered = index = 0
    results = [0, 0, 0, 0]
    for actor, T, N, ends, times in given_deliveries:
        head = header(actor, sequence=sequences[actor], T=T, N=N)
        sequences[actor] += 1
        games = [game(index + i, end, actor_id=actor) for i, end in enumerate(ends)]
        index += len(games)
        for _ in range(times):
            before = progress.timestep
            deliver(progress, head, games)
            assert progress.timestep >= before
            if saved_each_time:
                progress = Progress.from_json(progress.to_json())
        timesteps += T * N
        collected += T * N * times
        redelivered += times - 1
        for end in ends:
            results[end] += 1
    assert progress.timestep == timesteps
    assert progress.timesteps_collected == collected == timesteps + progress.timesteps_lost
    assert progress.rollouts_rejected == redelivered
    assert progress.games_total == index == sum(results)
    assert [
        progress.black_wins,
        progress.white_wins,
        progress.draws,
        progress.truncated,
    ] == results
    assert progress.game_plies_total == 10 * index


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=5), max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rollouts_within_an_update_does_not_matter(
    updates: list[list[tuple[int, int]]], random: object
) -> None:
    in_order, shuffled = Progress(), Progress()
    sequence = 0
    for update in updates:
        headers = []
        for actor, T in update:
            headers.append(header(actor, sequence=sequence, T=T))
            sequence += 1
        in_order.consume(headers, [])
        random.shuffle(headers)  # type: ignore[attr-defined]
        shuffled.consume(headers, [])
    assert in_order == shuffled


def test_an_update_moves_no_timestep_and_a_rollout_no_update() -> None:
    progress = Progress()
    progress.consume([header()], [])
    assert (progress.timestep, progress.updates, progress.weights_version) == (12, 0, 0)
    progress.finish_update(1)
    assert (progress.timestep, progress.updates, progress.weights_version) == (12, 1, 1)


@pytest.mark.parametrize("version", [4, 5, -1])
def test_a_version_that_is_not_newer_is_refused(version: int) -> None:
    progress = Progress(updates=5, weights_version=5)
    with pytest.raises(ValueError, match="weights_version"):
        progress.finish_update(version)
    assert progress == Progress(updates=5, weights_version=5)


def consumed() -> Progress:
    """A progress with something in every count."""
    progress = Progress()
    for actor in (0, 0, 2):
        progress.next_incarnation(actor)
    heads = [header(0, incarnation=1, sequence=4), header(2, sequence=1)]
    ends = [game(i, i % 4, 10 + i, actor_id=2) for i in range(7)]
    for head in heads:
        progress.collect(head)
    progress.consume(heads, ends)
    progress.finish_update(1)
    progress.reject_rollout(head)
    progress.restart_actor()
    progress.add_wall_time(1.5)
    progress.add_wall_time(0.1)
    return progress


def test_counts_of_a_known_update() -> None:
    progress = consumed()
    assert (progress.timestep, progress.timesteps_collected) == (24, 24)
    assert (progress.games_total, progress.game_plies_total) == (7, 91)
    results = (progress.black_wins, progress.white_wins, progress.draws, progress.truncated)
    assert results == (2, 2, 2, 1)
    assert (progress.rollouts_rejected, progress.actor_restarts) == (1, 1)
    assert progress.wall_time_s == pytest.approx(1.6)
    assert progress.incarnations == {0: 1, 2: 0}
    assert progress.last_sequence == {0: (1, 4), 2: (0, 1)}


@pytest.mark.parametrize(
    ("headers", "games"),
    [
        ([header(2, sequence=1)], []),
        ([header(2, sequence=0)], []),
        ([header(0, incarnation=0, sequence=99)], []),
        ([header(2, sequence=2), header(2, sequence=2)], []),
        ([header(2, sequence=2)], [game(9, actor_id=2), game(9, actor_id=2)]),
        ([header(2, sequence=2)], [game(9, actor_id=5)]),
        ([header(2, sequence=2)], [game(9, actor_id=2, incarnation=1)]),
        (
            [header(2, sequence=2)],
            [replace(game(9, actor_id=2), result=cast(GameResult, "resigned"))],
        ),
    ],
    ids=[
        "delivered again",
        "older than the last",
        "of an earlier incarnation",
        "twice in one update",
        "a game twice",
        "a game of another actor",
        "a game of another incarnation",
        "an unknown result",
    ],
)
def test_what_cannot_be_counted_is_refused_and_changes_nothing(
    headers: list[RolloutHeader], games: list[FinishedGame]
) -> None:
    progress = consumed()
    fresh = header(1, sequence=0)
    with pytest.raises(ValueError, match=r"^(rollout|game) .*(\.|one)"):
        progress.consume([fresh, *headers], games)
    assert progress == consumed()
    assert not progress.is_duplicate(fresh)


def test_a_gap_in_the_sequence_is_not_a_duplicate() -> None:
    progress = consumed()
    assert progress.is_duplicate(header(2, sequence=1))
    assert not progress.is_duplicate(header(2, sequence=5))
    assert not progress.is_duplicate(header(2, incarnation=1, sequence=0))
    assert progress.is_duplicate(header(0, incarnation=0, sequence=5))
    assert not progress.is_duplicate(header(7))


def test_incarnations_count_up_for_each_actor_and_over_a_resume() -> None:
    progress = Progress()
    assert [progress.next_incarnation(actor) for actor in (3, 3, 0, 3)] == [0, 1, 0, 2]
    resumed = Progress.from_json(progress.to_json())
    assert [resumed.next_incarnation(actor) for actor in (3, 0, 9)] == [3, 1, 0]


def test_saving_and_reading_back_is_the_identity() -> None:
    progress = consumed()
    restored = Progress.from_json(progress.to_json())
    assert restored == progress
    assert restored.to_json() == progress.to_json()
    assert Progress.from_json(Progress().to_json()) == Progress()


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_invalid_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Progress().add_wall_time(seconds)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"timestep": -1}, "timestep"),
        ({"updates": 1.5}, "updates"),
        ({"updates": True}, "updates"),
        ({"games_total": 8}, "games_total = 8"),
        ({"wall_time_s": "long"}, "wall_time_s"),
        ({"wall_time_s": float("nan")}, "wall_time_s"),
        ({"incarnations": {"x": 1}}, "incarnations"),
        ({"incarnations": {"1": [1]}}, "incarnations"),
        ({"incarnations": [1]}, "incarnations"),
        ({"last_sequence": {"1": 3}}, "last_sequence"),
        ({"last_sequence": {"1": [3, -1]}}, "last_sequence"),
        ({"elo": 3}, "elo"),
    ],
)
def test_counts_that_are_damaged_are_refused(changes: dict[str, object], word: str) -> None:
    values = json.loads(consumed().to_json()) | changes
    with pytest.raises(CheckpointError, match=word):
        Progress.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"timestep": 3}'])
def test_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="progress"):
        Progress.from_json(text)


def test_undone_updates_are_counted_and_older_checkpoints_lack_the_count() -> None:
    progress = Progress()
    for version, is_undone in ((1, False), (2, True), (3, True)):
        progress.finish_update(version, is_undone=is_undone)
    assert (progress.updates, progress.updates_undone) == (3, 2)
    values = json.loads(progress.to_json())
    assert Progress.from_json(json.dumps(values)).updates_undone == 2
    del values["updates_undone"]
    assert Progress.from_json(json.dumps(values)).updates_undone == 0
    del values["updates"]
    with pytest.raises(CheckpointError, match="differs in"):
        Progress.from_json(json.dumps(values))


def test_what_waited_for_an_update_is_lost_with_a_session_and_counted_so_once() -> None:
    progress = Progress()
    heads = [header(0, sequence=0), header(0, sequence=1), header(1, sequence=0)]
    for head in heads:
        progress.collect(head)
    progress.consume(heads[:1], [])
    progress.reject_rollout(heads[1])
    assert Progress.from_json(progress.to_json()).begin_session() == 12
    assert progress.begin_session() == 12
    assert progress.timesteps_lost == 24
    assert progress.begin_session() == 0


def test_a_session_uses_the_number_of_an_incarnation_of_which_nothing_counts_again() -> None:
    progress = Progress()
    for actor_id in (0, 0, 1, 2):
        progress.next_incarnation(actor_id)
    progress.consume([header(0, incarnation=1), header(1, incarnation=0)], [])
    progress.next_incarnation(1)
    progress.begin_session()
    assert [progress.next_incarnation(actor_id) for actor_id in (0, 1, 2)] == [2, 1, 0]


def test_counts_of_a_program_that_did_not_count_lost_plies_are_read() -> None:
    values = json.loads(Progress(timestep=64, timesteps_collected=96).to_json())
    del values["timesteps_lost"]
    progress = Progress.from_json(json.dumps(values))
    assert (progress.timesteps_lost, progress.begin_session()) == (0, 32)
