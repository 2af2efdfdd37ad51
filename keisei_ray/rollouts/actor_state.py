"""The state of a self-play actor between two rollouts, and its form as bytes.

An actor sends its state with every rollout. With the state that follows a rollout, another process
plays on as the actor would have done: the same games, random numbers, opponents and numbers of
rollouts. So a checkpoint that holds the states after the newest consumed rollouts loses no game.

Random generators are not stored. A game's own generator is used only when the game starts, and of
the generator that chooses moves it is enough to know how many numbers were drawn.

What is read is checked here as far as that is possible without the rules; `VectorGames.restore`
replays the moves. `state_bytes` has the form of the bytes.

N: games side by side, one in each lane.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from keisei_ray.rollouts.state_bytes import StateFormat

FORMAT: Final = StateFormat("actors", "a self-play actor")
NO_OPPONENT: Final = ""
"""Opponent's name in a game in which the learner plays both sides."""
BYTES_PER_MOVE: Final = 2
"""Size of a move in `GameInPlay.moves`."""


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
    return FORMAT.pack([*numbers, [games.next_index, rows], _values(pairing)])


def read_state(content: bytes) -> ActorState:
    """Reads what `pack_state` returned.

    Raises:
        CheckpointError: the bytes are something else, or written by a newer program.
    """
    values = FORMAT.unpack(content)
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
        raise FORMAT.bad("a value where a list is expected", str(error)) from error
    _check(state)
    return state


def pack_states(states: Sequence[bytes]) -> bytes:
    """Returns the states of several actors as one file."""
    return FORMAT.pack_all(states)


def read_states(content: bytes) -> dict[int, ActorState]:
    """Reads what `pack_states` returned: actor id -> state.

    Raises:
        CheckpointError: the bytes are something else, or written by a newer program.
    """
    return FORMAT.read_all(content, read_state)


def _values(record: Any) -> list[Any]:
    return [getattr(record, field.name) for field in fields(record)]


def _row(values: object, record: type, what: str) -> list[Any]:
    """Returns the values of a record: as many as it has fields."""
    if not isinstance(values, list) or len(values) != len(fields(record)):
        raise FORMAT.bad(what, values)
    return values


def _check(state: ActorState) -> None:
    """Refuses a state in which no actor can be."""
    for name in ("actor_id", "incarnation", "sequence", "num_drawn", "max_plies"):
        FORMAT.check_count(name, getattr(state, name))
    games, pairing = state.games.games, state.pairing
    FORMAT.check_count("next_index", state.games.next_index)
    FORMAT.check_count("num_mixes", pairing.num_mixes)
    for game in games:
        _check_game(game, state)
    if not games or len({game.index for game in games}) < len(games):
        raise FORMAT.bad("games", [game.index for game in games])
    if not len(pairing.opponents) == len(pairing.learner_turns) == len(games):
        raise FORMAT.bad("opponents", pairing.opponents)
    names = (*pairing.opponents, *pairing.networks, *pairing.slots)
    if not all(isinstance(name, str) for name in names):
        raise FORMAT.bad("opponents", names)
    if len(set(pairing.networks)) < len(pairing.networks):
        raise FORMAT.bad("networks", pairing.networks)
    if any(type(turn) is not int or turn not in (0, 1) for turn in pairing.learner_turns):
        raise FORMAT.bad("learner_turns", pairing.learner_turns)


def _check_game(game: GameInPlay, state: ActorState) -> None:
    FORMAT.check_count("index", game.index)
    FORMAT.check_count("opening_plies", game.opening_plies)
    if game.index >= state.games.next_index:
        raise FORMAT.bad("next_index", state.games.next_index)
    if not isinstance(game.start_sfen, str):
        raise FORMAT.bad("start_sfen", game.start_sfen)
    if not isinstance(game.moves, bytes) or len(game.moves) % BYTES_PER_MOVE:
        raise FORMAT.bad("moves", game.moves)
    if not game.opening_plies <= len(game.moves) // BYTES_PER_MOVE < state.max_plies:
        raise FORMAT.bad("plies", len(game.moves) // BYTES_PER_MOVE)
