"""The state of a reader of records between two rollouts, and its form as bytes.

A reader sends its state with every rollout. With the state that follows a rollout, another process
reads on as the reader would have done. It is a place in a stream that is a function of files,
settings and seed (`records/stream.py`), so it holds no positions: the files are read again, from
the beginning of the pass.

The values are checked here; `state_bytes` has the form of the bytes.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Final

from keisei_ray.rollouts.state_bytes import StateFormat

FORMAT: Final = StateFormat("readers", "a reader of records")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the stream of one reader."""

    number: int = 1
    """Pass, from 1."""
    read_in: int = 1
    """Pass in whose order the files were read; less than `number` where all positions have room in
    memory."""
    found: int = 0
    """Games, and what was found in the place of games, before the window."""
    offset: int = 0
    """Positions of the window that have been given out."""
    corpus: str = ""
    """Digest of files and settings, see `stream.corpus_digest`."""
    games: int = 0
    """Games used in the pass before the window."""
    positions: int = 0
    """Positions used in the pass before the window."""
    left_out: tuple[tuple[str, int, str], ...] = ()
    """Name of a cause, how often it occurred in the pass before the window, and the first example.
    """


@dataclass(frozen=True, slots=True)
class ReaderState:
    """State of a reader of records after a rollout."""

    actor_id: int
    """Number of the reader among the self-play actors, in whose place it is."""
    incarnation: int
    """Incarnation of the reader; a process that reads on from this state has the same."""
    sequence: int
    """Rollouts that the incarnation has produced."""
    num_readers: int
    """Readers that share the games."""
    place: Place
    """Place of the next position."""


def pack_reader(state: ReaderState) -> bytes:
    """Returns a state as bytes, for `read_reader`."""
    *numbers, _ = astuple(state)
    return FORMAT.pack([*numbers, list(astuple(state.place))])


def read_reader(content: bytes) -> ReaderState:
    """Reads what `pack_reader` returned.

    Raises:
        CheckpointError: the bytes are something else, or written by a newer program.
    """
    values = FORMAT.unpack(content)
    if len(values) != len(fields(ReaderState)):
        raise FORMAT.bad("state", values)
    actor_id, incarnation, sequence, num_readers, place = values
    if not isinstance(place, list) or len(place) != len(fields(Place)):
        raise FORMAT.bad("place", place)
    number, read_in, found, offset, corpus, games, positions, left_out = place
    numbers = (actor_id, incarnation, sequence, num_readers)
    for count in (*numbers, number, read_in, found, offset, games, positions):
        FORMAT.check_count("count", count)
    if not isinstance(corpus, str) or not 1 <= read_in <= number:
        raise FORMAT.bad("place", place)
    if not isinstance(left_out, list) or not all(_is_cause(row) for row in left_out):
        raise FORMAT.bad("left_out", left_out)
    rows = tuple((name, count, example) for name, count, example in left_out)
    place = Place(number, read_in, found, offset, corpus, games, positions, rows)
    return ReaderState(actor_id, incarnation, sequence, num_readers, place)


def pack_readers(states: Sequence[bytes]) -> bytes:
    """Returns the states of several readers as one file."""
    return FORMAT.pack_all(states)


def read_readers(content: bytes) -> dict[int, ReaderState]:
    """Reads what `pack_readers` returned: number of the reader -> state.

    Raises:
        CheckpointError: the bytes are something else, or written by a newer program.
    """
    return FORMAT.read_all(content, read_reader)


def _is_cause(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and type(row[1]) is int
        and row[1] >= 0
        and isinstance(row[2], str)
    )
