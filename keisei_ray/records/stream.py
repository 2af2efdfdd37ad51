"""The endless stream of positions that a network is trained on, and the held-out ones.

One pass reads every piece of the files once, in random order, several at a time. Games are
filtered, duplicates are left out, held-out games are set aside, and the positions of the others go
through a buffer of bounded size that mixes them. Then the next pass begins, in another order, and
replaces what is in the buffer bit by bit, so the stream never waits for it. Memory does not grow
with the files. If all positions have room in the buffer, the files are read once.

Several readers share the pieces; a duplicate that another reader has seen is not found.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import RecordsError
from keisei_ray.records.files import Piece, find_pieces
from keisei_ray.records.left_out import Cause, LeftOut, Tally
from keisei_ray.records.positions import Positions, empty_positions, joined, positions_of
from keisei_ray.records.reading import read_games
from keisei_ray.shogi.game_record import GameRecord
from keisei_ray.storage.run_layout import GAMES_FILE

PIECES_AT_ONCE: Final = 8
"""Pieces that are read in turns, so that neighbours in a file are no neighbours in the stream."""
_HASH_RANGE: Final = 1 << 64


class Duplicates:
    """A memory of games of bounded size: a table in which a newer game replaces an older one."""

    def __init__(self, size: int) -> None:
        """Makes the table for `size` games."""
        self._seen = np.zeros(size, np.uint64)

    def is_new(self, game_hash: int) -> bool:
        """Whether a game is not in the memory; puts it there."""
        slot = game_hash % len(self._seen)
        if int(self._seen[slot]) == game_hash:
            return False
        self._seen[slot] = game_hash
        return True


class ShuffleBuffer:
    """Positions in memory; each that comes takes the place of a random one, which leaves."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        """Allocates storage for `size` positions."""
        self._storage = empty_positions(size)
        self._size = size
        self._filled = 0
        self._rng = rng

    def push(self, positions: Positions) -> Iterator[Positions]:
        """Takes positions; yields as many as there is no room for."""
        free = self._size - self._filled
        if free:
            first = positions.rows(slice(0, free))
            self._storage.write(slice(self._filled, self._filled + len(first)), first)
            self._filled += len(first)
        for start in range(free, len(positions), self._size):
            part = positions.rows(slice(start, start + self._size))
            slots = self._rng.choice(self._size, len(part), replace=False)
            yield self._storage.rows(slots)
            self._storage.write(slots, part)

    def shuffled(self) -> Positions:
        """Returns a copy of all positions that it holds, in random order."""
        return self._storage.rows(self._rng.permutation(self._filled))

    @property
    def is_full(self) -> bool:
        """Whether a further position would take the place of another one."""
        return self._filled == self._size


class _Parts:
    """Cuts positions that come in parts of any size into parts of one size."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._waiting: list[Positions] = []

    def cut(self, positions: Positions) -> Iterator[Positions]:
        """Takes positions; yields the parts that are complete."""
        self._waiting.append(positions)
        if sum(map(len, self._waiting)) < self._rows:
            return
        whole = joined(self._waiting)
        ends = range(self._rows, len(whole) + 1, self._rows)
        self._waiting = [whole.rows(slice(ends[-1], None))]
        for end in ends:
            yield whole.rows(slice(end - self._rows, end))


def game_hash(game: GameRecord) -> int:
    """Returns 64 bits of a hash of start position and moves: the same in every format."""
    start = " ".join(game.start_sfen.split()[:3])
    moves = np.frombuffer(array("H", game.moves), np.uint16).astype("<u2").tobytes()
    return int.from_bytes(hashlib.blake2b(start.encode() + moves, digest_size=8).digest(), "big")


def is_held_out(hashed: int, share: float) -> bool:
    """Whether a game is one of those that are not learned from."""
    return hashed < share * _HASH_RANGE


def training_positions(
    config: PretrainConfig,
    *,
    rows: int,
    seed: Sequence[int],
    reader: int = 0,
    num_readers: int = 1,
    began: Callable[[int, Tally], None] = lambda number, tally: None,
) -> Iterator[Positions]:
    """Yields positions to learn from without end, `rows` at a time.

    Args:
        config: files, filters, sizes.
        rows: positions of each part.
        seed: the order depends on it and on nothing else.
        reader: number of this reader.
        num_readers: readers that share the files.
        began: called at the beginning of each pass with its number from 1 and what will count it.

    Raises:
        RecordsError: a file is missing, or a pass has found nothing to learn from.
    """
    rng = np.random.default_rng([*seed, reader])
    buffer, parts = ShuffleBuffer(config.shuffle_positions, rng), _Parts(rows)
    number = 0
    while not number or buffer.is_full:
        number += 1
        tally = Tally()
        began(number, tally)
        for positions in _pass(config, tally, rng, reader, num_readers):
            for mixed in buffer.push(positions):
                yield from parts.cut(mixed)
        if not tally.positions:
            raise nothing_usable(config, tally)
    while True:  # Everything is in memory.
        yield from parts.cut(buffer.shuffled())


def held_out_positions(config: PretrainConfig, tally: Tally) -> Positions | None:
    """Returns the positions that a network is measured on; None if there is no held-out game.

    They are the first ones in an order that depends on the files only, so that different networks
    are measured on the same.
    """
    rng = np.random.default_rng(0)
    games = (
        game
        for game, hashed in used_games(
            _mixed(find_pieces(config.records, tally), rng), config, tally
        )
        if is_held_out(hashed, config.held_out)
    )
    parts, found = [], 0
    for positions in positions_of(games, config, tally):
        parts.append(positions)
        found += len(positions)
        if found >= config.held_out_positions:
            break
    return joined(parts).rows(slice(0, config.held_out_positions)) if parts else None


def nothing_usable(config: PretrainConfig, tally: Tally) -> RecordsError:
    """Makes the error of records that hold nothing to learn from, in one line."""
    causes = ", ".join(f"{count:,} {cause.value}" for cause, count in tally.causes.most_common())
    names = ", ".join(islice(config.records, 3))
    more = f" and {len(config.records) - 3} more" if len(config.records) > 3 else ""
    return RecordsError(
        f"--records {names}{more}: nothing to learn from; left out: {causes or 'nothing'}. "
        "Expected games with results in CSA, KIF, KI2, USI lines, hcpe, psv, pack or "
        f"{GAMES_FILE}."
    )


def _pass(
    config: PretrainConfig,
    tally: Tally,
    rng: np.random.Generator,
    reader: int,
    num_readers: int,
) -> Iterator[Positions]:
    """Yields the positions of one pass, game by game."""
    pieces = find_pieces(config.records, tally)[reader::num_readers]
    games = (
        game
        for game, hashed in used_games(_mixed(pieces, rng), config, tally)
        if not is_held_out(hashed, config.held_out)
    )
    return positions_of(games, config, tally)


def _mixed(pieces: Sequence[Piece], rng: np.random.Generator) -> Iterator[GameRecord | LeftOut]:
    """Yields the games of all pieces in random order, a few pieces at a time."""
    order: list[int] = rng.permutation(len(pieces)).tolist()
    waiting = (read_games(pieces[i]) for i in order)
    opened = list(islice(waiting, PIECES_AT_ONCE))
    while opened:
        chosen = int(rng.integers(len(opened)))
        found = next(opened[chosen], None)
        if found is not None:
            yield found
        elif (following := next(waiting, None)) is not None:
            opened[chosen] = following
        else:
            del opened[chosen]


def used_games(
    games: Iterator[GameRecord | LeftOut], config: PretrainConfig, tally: Tally
) -> Iterator[tuple[GameRecord, int]]:
    """Yields the games that pass the filters of games, with their hashes."""
    duplicates = Duplicates(config.duplicate_memory)
    for game in games:
        if isinstance(game, LeftOut):
            tally.leave_out(game.cause, game.example)
            continue
        cause = _cause_against(game, config)
        hashed = game_hash(game)
        if cause is None and not duplicates.is_new(hashed):
            cause = Cause.DUPLICATE
        if cause is not None:
            tally.leave_out(cause, game.place)
            continue
        yield game, hashed


def _cause_against(game: GameRecord, config: PretrainConfig) -> Cause | None:
    """Returns why a game does not pass the filters; None if it does."""
    if not game.moves:
        return Cause.NO_MOVES
    if config.min_rating is not None:
        ratings = [rating for rating in game.ratings if rating is not None]
        if len(ratings) < 2 or min(ratings) < config.min_rating:
            return Cause.RATING
    result = "draw" if game.result == "truncated" else game.result
    if result is not None and result not in config.results:
        return Cause.RESULT
    if config.max_plies is not None and len(game.moves) > config.max_plies:
        return Cause.TOO_LONG
    if len(game.moves) < config.min_plies and not game.is_part:
        return Cause.TOO_SHORT
    return None
