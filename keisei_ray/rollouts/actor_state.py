"""The state of a self-play actor between two rollouts, and its form as bytes.

An actor sends its state with every rollout. With the state that follows a rollout, another process
plays on as the actor would have done: the same games, random numbers, opponents and numbers of
rollouts. So a checkpoint that holds the states after the newest consumed rollouts loses no game.

Random generators are not stored. A game's own generator is used only when the game starts, and of
the generator that chooses moves it is enough to know how many numbers were drawn.

The bytes are msgpack of plain values. Nothing is unpickled, and what is read is checked here as far
as that is possible without the rules; `VectorGames.restore` replays the moves.

N: games side by side, one in each lane.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from reprlib import repr as shortened
from typing import Any, Final

import msgpack

from keisei_ray.errors import CheckpointError

SCHEMA: Final = 1
"""Schema that this program writes, and the newest one that it reads."""
NO_OPPONENT: Final = ""
"""Opponent's name in a game in which the learner plays both sides."""
BYTES_PER_MOVE: Final = 2
"""Size of a move in `GameInPlay.moves`."""
_MAX_COUNT: Final = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class GameInPlay:
    """A game that has not ended, from its start to its present position."""

    index: int
    """Number of the game, in order of starting."""
    start_sfen: str
    """Position before the opening; empty for the standard position."""
    opening_plies: int
    """Random plies at the start."""
    moves: bytes
    """Every ply, opening included, as 16-bit moves (`shogi/actions.py`), little-endian."""


@dataclass(frozen=True, slots=True)
class GamesState:
    """State of `VectorGames`."""

    next_index: int
    """Index that the next game gets."""
    games: tuple[GameInPlay, ...]
    """[N] the game in each lane."""


@dataclass(frozen=True, slots=True)
class PairingState:
    """State of `Pairing`."""

    opponents: tuple[str, ...] = ()
    """[N] the pool member in each lane, or NO_OPPONENT."""
    learner_turns: tuple[int, ...] = ()
    """[N] the learner's side against it, 0 black, 1 white."""
    networks: tuple[str, ...] = ()
    """Snapshots whose networks the actor holds."""
    num_mixes: int = 0
    """Number of the newest opponent mix, see `OpponentMix`."""
    slots: tuple[str, ...] = ()
    """Slots of the newest opponent mix, see `OpponentMix`."""


@dataclass(frozen=True, slots=True)
class ActorState:
    """State of a self-play actor after a rollout."""

    actor_id: int
    """Number of the actor."""
    incarnation: int
    """Incarnation of the actor; a process that plays on from this state has the same."""
    sequence: int
    """Rollouts that the incarnation has produced."""
    num_drawn: int
    """Numbers drawn so far from the generator that chooses moves."""
    max_plies: int
    """Plies after which a game is truncated."""
    games: GamesState
    """Games in play."""
    pairing: PairingState
    """Opponents in these games."""


def pack_state(state: ActorState) -> bytes:
    """Returns a state as bytes, for `read_state`."""
    *numbers, games, pairing = _values(state)
    rows = [_values(game) for game in games.games]
    packed: bytes = msgpack.packb([SCHEMA, *numbers, [games.next_index, rows], _values(pairing)])
    return packed


def read_state(content: bytes) -> ActorState:
    """Reads what `pack_state` returned.

    Raises:
        CheckpointError: the bytes are something else, or written by a newer program.
    """
    values = _unpacked(content)
    try:
        *numbers, games, pairing = _row(values, ActorState, "state")
        actor_id, incarnation, sequence, num_drawn, max_plies = numbers
        next_index, rows = _row(games, GamesState, "games")
        opponents, turns, networks, num_mixes, slots = _row(pairing, PairingState, "opponents")
        state = ActorState(
            actor_id,
            incarnation,
            sequence,
            num_drawn,
            max_plies,
            GamesState(next_index, tuple(GameInPlay(*_row(r, GameInPlay, "game")) for r in rows)),
            PairingState(tuple(opponents), tuple(turns), tuple(networks), num_mixes, tuple(slots)),
        )
    except TypeError as error:
        raise _bad("a value where a list is expected", str(error)) from error
    _check(state)
    return state


def pack_states(states: Sequence[bytes]) -> bytes:
    """Returns the states of several actors as one file."""
    packed: bytes = msgpack.packb([SCHEMA, list(states)])
    return packed


def read_states(content: bytes) -> dict[int, ActorState]:
    """Reads what `pack_states` returned: actor id -> state.

    Raises:
        CheckpointError: the bytes are something else, or written by a newer program.
    """
    values = _unpacked(content)
    packed = values[0] if len(values) == 1 else None
    if not isinstance(packed, list) or not all(isinstance(one, bytes) for one in packed):
        raise _bad("content", packed)
    states = [read_state(one) for one in packed]
    by_actor = {state.actor_id: state for state in states}
    if len(by_actor) < len(states):
        raise _bad("actors", "two states of one actor")
    return by_actor


def _unpacked(content: bytes) -> list[Any]:
    """Returns the values after the schema."""
    try:
        values = msgpack.unpackb(content)
    except (ValueError, msgpack.UnpackException) as error:
        raise CheckpointError(f"actors: not msgpack: {shortened(str(error))}.") from error
    if not isinstance(values, list) or not values or type(values[0]) is not int or values[0] < 1:
        raise _bad("schema", values[0] if isinstance(values, list) and values else values)
    if values[0] > SCHEMA:
        raise CheckpointError(
            f"actors: schema {values[0]}; this program reads up to {SCHEMA}. Upgrade it."
        )
    return values[1:]


def _values(record: Any) -> list[Any]:
    return [getattr(record, field.name) for field in fields(record)]


def _row(values: object, record: type, what: str) -> list[Any]:
    """Returns the values of a record: as many as it has fields."""
    if not isinstance(values, list) or len(values) != len(fields(record)):
        raise _bad(what, values)
    return values


def _check(state: ActorState) -> None:
    """Refuses a state in which no actor can be."""
    for name in ("actor_id", "incarnation", "sequence", "num_drawn", "max_plies"):
        _check_count(name, getattr(state, name))
    games, pairing = state.games.games, state.pairing
    _check_count("next_index", state.games.next_index)
    _check_count("num_mixes", pairing.num_mixes)
    for game in games:
        _check_game(game, state)
    if not games or len({game.index for game in games}) < len(games):
        raise _bad("games", [game.index for game in games])
    if not len(pairing.opponents) == len(pairing.learner_turns) == len(games):
        raise _bad("opponents", pairing.opponents)
    names = (*pairing.opponents, *pairing.networks, *pairing.slots)
    if not all(isinstance(name, str) for name in names):
        raise _bad("opponents", names)
    if len(set(pairing.networks)) < len(pairing.networks):
        raise _bad("networks", pairing.networks)
    if any(type(turn) is not int or turn not in (0, 1) for turn in pairing.learner_turns):
        raise _bad("learner_turns", pairing.learner_turns)


def _check_game(game: GameInPlay, state: ActorState) -> None:
    _check_count("index", game.index)
    _check_count("opening_plies", game.opening_plies)
    if game.index >= state.games.next_index:
        raise _bad("next_index", state.games.next_index)
    if not isinstance(game.start_sfen, str):
        raise _bad("start_sfen", game.start_sfen)
    if not isinstance(game.moves, bytes) or len(game.moves) % BYTES_PER_MOVE:
        raise _bad("moves", game.moves)
    if not game.opening_plies <= len(game.moves) // BYTES_PER_MOVE < state.max_plies:
        raise _bad("plies", len(game.moves) // BYTES_PER_MOVE)


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise _bad(name, value)


def _bad(name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"actors: {name} = {shortened(value)}: not the state of a self-play actor. Resume from "
        "another checkpoint."
    )
