"""The state of an actor as bytes: nothing is lost, and nothing else is read."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.actor_state import (
    ActorState,
    GameInPlay,
    GamesState,
    PairingState,
    pack_state,
    pack_states,
    read_state,
    read_states,
)

GAME = GameInPlay(index=4, start_sfen="", opening_plies=1, moves=b"\1\2\3\4")
STATE = ActorState(
    actor_id=3,
    incarnation=2,
    sequence=7,
    num_drawn=2**40,
    max_plies=60,
    games=GamesState(9, (GAME, GameInPlay(8, "9/9/9 b - 1", 0, b""))),
    pairing=PairingState(("", "v12"), (0, 1), ("v3", "v12"), 6, ("v3", "v3")),
)


def with_game(**changes: Any) -> ActorState:
    return replace(STATE, games=GamesState(9, (replace(GAME, **changes), STATE.games.games[1])))


def with_pairing(**changes: Any) -> ActorState:
    return replace(STATE, pairing=replace(STATE.pairing, **changes))


def test_a_state_is_read_as_it_was_packed() -> None:
    assert read_state(pack_state(STATE)) == STATE
    other = replace(STATE, actor_id=1)
    assert read_states(pack_states([pack_state(STATE), pack_state(other)])) == {3: STATE, 1: other}
    assert read_states(pack_states([])) == {}


@pytest.mark.parametrize(
    "state",
    [
        replace(STATE, num_drawn=-1),
        replace(STATE, sequence=True),
        replace(STATE, games=GamesState(9, ())),
        replace(STATE, games=GamesState(8, STATE.games.games)),
        with_game(index=8),
        with_game(start_sfen=1),
        with_game(moves=b"\1\2\3"),
        with_game(moves=bytes(120)),
        with_game(opening_plies=3),
        with_pairing(opponents=("",)),
        with_pairing(learner_turns=(0, 2)),
        with_pairing(networks=("v3", "v3")),
        with_pairing(slots=(3,)),
        with_pairing(num_mixes=1.0),
    ],
)
def test_a_state_in_which_no_actor_can_be_is_refused(state: ActorState) -> None:
    with pytest.raises(CheckpointError, match=r"not the state of a self-play actor"):
        read_state(pack_state(state))


def test_a_file_of_a_newer_program_is_refused_and_says_so() -> None:
    with pytest.raises(CheckpointError, match="schema 2; this program reads up to 1"):
        read_states(msgpack.packb([2, []]))


def test_two_states_of_one_actor_are_refused() -> None:
    with pytest.raises(CheckpointError, match="two states"):
        read_states(pack_states([pack_state(STATE)] * 2))
