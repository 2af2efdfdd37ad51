"""The endless stream of positions that a network is trained on, and the held-out ones.

One pass reads every piece of the files once, in random order, several at a time. Games are
filtered, duplicates are left out, held-out games are set aside. The others go through windows: the
positions of as many games as have `pretrain.shuffle_positions` moves are in memory and are given
out in random order, while the next window is read. Memory does not grow with the files. If all
games have room in one window, the files are read once.

Several readers read all files, and each takes the games whose hash is its own (`identity.py`). So a
game that stands twice in the files comes to the same reader both times, which finds the duplicate.
Where one of its records has the visits of a search, that one is used: files of hcpe3 that stand
beside others are read once before the first pass, for the hashes of their games.

The stream is a function of files, settings and seed. A `Place` says how far it has been given out:
the pass, what was found in it before the window, and the positions of the window. To go on there,
the files are read from the beginning of the pass, but only the games of the window are played.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import dropwhile, islice
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import RecordsError
from keisei_ray.records.end_by_rules import with_result
from keisei_ray.records.files import Pieces, find_pieces
from keisei_ray.records.identity import game_hash
from keisei_ray.records.left_out import Cause, LeftOut, Tally
from keisei_ray.records.positions import Positions, empty_positions, joined, positions_of
from keisei_ray.records.reading import read_games
from keisei_ray.rollouts.reader_state import Place
from keisei_ray.shogi.game_record import GameRecord
from keisei_ray.storage.run_layout import GAMES_FILE

PIECES_AT_ONCE: Final = 8
"""Pieces that are read in turns, so that neighbours in a file are no neighbours in the stream."""
_HASH_RANGE: Final = 1 << 64
_IDENTITY: Final = b"moves after the opening"
"""Name of the rule by which `game_hash` identifies a game: by another, others are held out."""
_READING, _SHUFFLING, _DRAWING = 0, 1, 2
"""First numbers of the seeds of a pass, of a window, and of the policy's targets in a pass."""
_NOT_OF_THE_ORDER: Final = frozenset(
    {
        "records",
        "held_out_positions",
        "held_out_interval_timesteps",
        "eval_weight",
        "eval_scale",
        "policy_target",
        "mirror",
    }
)
"""Settings that change neither which positions there are nor their order."""


class Duplicates:
    """A memory of games of bounded size: a table in which a newer game replaces an older one."""

    def __init__(self, size: int) -> None:
        """Makes the table for `size` games."""
        self._seen = np.zeros(size, np.uint64)

    def __contains__(self, game_hash: int) -> bool:
        """Whether a game is in the memory."""
        return int(self._seen[game_hash % len(self._seen)]) == game_hash

    def is_new(self, game_hash: int) -> bool:
        """Whether a game is not in the memory; puts it there."""
        if game_hash in self:
            return False
        self._seen[game_hash % len(self._seen)] = game_hash
        return True


class UsedGame(NamedTuple):
    """A game that passes the filters of games."""

    game: GameRecord
    hashed: int
    """Hash of the game, see `game_hash`."""
    at: int
    """Number of games, and of what was found in the place of games, before it in the pass."""


class Part(NamedTuple):
    """Positions that the stream gives out at a time."""

    positions: Positions
    after: Place
    """Place of the next position."""
    tally: Tally
    """Counts of the pass up to the end of the window that the last position is from."""
    is_whole: bool
    """Whether they are those of the whole pass."""


class _Window(NamedTuple):
    """Positions of some games that follow one another."""

    positions: Positions
    order: npt.NDArray[np.int64]
    """Indices of the positions, in the order in which they are given out."""
    start: Place
    tally: Tally
    """Counts of the pass up to the end of the window."""
    is_last: bool
    """Whether it is the last of its pass."""


class _Games:
    """The games of a pass from some place on, in windows."""

    def __init__(self, games: Iterator[UsedGame], found: int) -> None:
        self._games = dropwhile(lambda used: used.at < found, games)
        self.following = next(self._games, None)
        """Game with which the next window begins; None at the end of the pass."""

    def window(self, size: int) -> Iterator[GameRecord]:
        """Yields games while there is room for all moves of the next one; one at least."""
        room = size
        while self.following is not None:
            game = self.following.game
            if len(game.moves) > room and room < size:
                return
            room -= len(game.moves)
            self.following = next(self._games, None)
            yield game


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
    place: Place | None = None,
    ended: Callable[[int, Tally], None] = lambda number, tally: None,
    changed: Callable[[], None] = lambda: None,
) -> Iterator[Part]:
    """Yields positions to learn from without end, `rows` at a time.

    While a window is given out, as many positions of the next one are read.

    Args:
        config: files, filters, sizes.
        rows: positions of each part.
        seed: the order depends on it, the place and the reader, and on nothing else.
        reader: number of this reader.
        num_readers: readers that share the games.
        place: where to go on; None: at the beginning.
        ended: called at the end of each pass over the files, with its number from 1 and its counts.
        changed: called where the files or settings are not those of `place`; the stream then goes
            on with the next pass.

    Raises:
        RecordsError: a file is missing, or a pass has found nothing to learn from.
    """
    windows = _windows(config, seed, reader, num_readers, place or Place(), changed)
    window, ahead = _finished(windows), None
    offset = window.start.offset
    parts, missing = list[Positions](), rows
    while True:
        chosen = window.order[offset : offset + missing]
        parts.append(window.positions.rows(chosen).with_target(window.start.number))
        offset, missing = offset + len(chosen), missing - len(chosen)
        if not missing:
            after = replace(window.start, offset=offset)
            yield Part(joined(parts), after, window.tally, window.is_last)
            parts, missing = [], rows
            ahead = ahead or _read(windows, rows)
        if offset >= len(window.order):  # Beyond it where a file has other content of its size.
            if window.is_last and window.start.number == window.start.read_in:
                ended(window.start.number, window.tally)
            window, ahead, offset = ahead or _finished(windows), None, 0


def corpus_digest(config: PretrainConfig, pieces: Pieces) -> str:
    """Returns a digest of the files' names and sizes, and of the settings that decide the order."""
    digest = hashlib.blake2b(_IDENTITY, digest_size=16)
    digest.update(config.model_dump_json(exclude=set(_NOT_OF_THE_ORDER)).encode())
    for piece in pieces:
        digest.update(f"\n{piece.name}\t{piece.stop}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def held_out_positions(config: PretrainConfig, tally: Tally) -> Positions | None:
    """Returns the positions that a network is measured on; None if there is no held-out game.

    They are the first ones in an order that depends on the files only, so that different networks
    are measured on the same.
    """
    rng = np.random.default_rng(0)
    games = (
        used.game
        for used in used_games(
            _mixed(Pieces(find_pieces(config.records, tally)), rng), config, tally
        )
        if is_held_out(used.hashed, config.held_out)
    )
    parts, found = [], 0
    for positions in positions_of(games, config, tally):
        parts.append(positions)
        found += len(positions)
        if found >= config.held_out_positions:
            break
    return joined(parts).rows(slice(0, config.held_out_positions)) if parts else None


def nothing_usable(config: PretrainConfig, tally: Tally, num_readers: int = 1) -> RecordsError:
    """Makes the error of records that hold nothing to learn from, in one line."""
    causes = ", ".join(f"{count:,} {cause.value}" for cause, count in tally.causes.most_common())
    names = ", ".join(islice(config.records, 3))
    more = f" and {len(config.records) - 3} more" if len(config.records) > 3 else ""
    fewer = " Few games need one reader: self_play.num_actors=1." if num_readers > 1 else ""
    return RecordsError(
        f"--records {names}{more}: nothing to learn from; left out: {causes or 'nothing'}. "
        "Expected games with results in CSA, KIF, KI2, USI lines, hcpe, hcpe3, psv, pack or "
        f"{GAMES_FILE}.{fewer}"
    )


def _read(windows: Iterator["int | _Window"], rows: int) -> _Window | None:
    """Reads so many positions; returns the window if it is finished with them."""
    read = 0
    while read < rows:
        step = next(windows)
        if isinstance(step, _Window):
            return step
        read += step
    return None


def _finished(windows: Iterator["int | _Window"]) -> _Window:
    """Reads on until the window is finished."""
    return next(step for step in windows if isinstance(step, _Window))


def _windows(
    config: PretrainConfig,
    seed: Sequence[int],
    reader: int,
    num_readers: int,
    place: Place,
    changed: Callable[[], None],
) -> Iterator["int | _Window"]:
    """Yields windows without end; before each, as it is read, the number of positions of each game.

    See `training_positions` for the arguments.
    """
    size = config.shuffle_positions
    known_corpus, searched = "", None
    while True:
        tally = Tally()
        # What is no game belongs to no reader; the first one counts it.
        pieces = Pieces(find_pieces(config.records, tally if reader == 0 else Tally()))
        corpus = corpus_digest(config, pieces)
        if place.corpus and place.corpus != corpus:
            changed()
            place = Place(place.number + 1, place.number + 1)
        place = replace(place, corpus=corpus)
        rng = np.random.default_rng([_READING, *seed, reader, place.read_in, 0])
        if corpus != known_corpus:
            known_corpus, searched = corpus, _searched(pieces, config, reader, num_readers)
        used = used_games(_mixed(pieces, rng), config, tally, reader, num_readers, searched)
        games = _Games(learned_games(used, config, tally), place.found)
        if place.found:
            tally.restore(place.games, place.positions, place.left_out)
        while True:
            first = len(games.following.game.moves) if games.following else 0
            storage, filled = empty_positions(max(size, first)), 0
            seeds = [_DRAWING, *seed, place.read_in]
            for positions in positions_of(games.window(size), config, tally, seed=seeds):
                storage.write(slice(filled, filled + len(positions)), positions)
                filled += len(positions)
                yield len(positions)
            is_last = games.following is None
            if is_last and not tally.positions:
                raise nothing_usable(config, tally, num_readers)
            is_whole = is_last and not place.found
            while True:
                seeds = [_SHUFFLING, *seed, reader, place.number, place.found]
                order = np.random.default_rng(seeds).permutation(filled)
                yield _Window(storage, order, place, deepcopy(tally), is_last)
                if not is_whole:
                    break
                # Everything is in memory.
                place = replace(place, number=place.number + 1, offset=0)
            if games.following is None:
                break
            place = replace(
                place,
                found=games.following.at,
                offset=0,
                games=tally.games,
                positions=tally.positions,
                left_out=tally.saved(),
            )
        place = Place(place.number + 1, place.number + 1)


def _searched(
    pieces: Pieces, config: PretrainConfig, reader: int, num_readers: int
) -> Duplicates | None:
    """Reads which games have a record with visits; None where no other format may hide one."""
    kinds = {piece.format for piece in pieces}
    if "hcpe3" not in kinds or len(kinds) == 1:
        return None
    found = (game for piece in pieces if piece.format == "hcpe3" for game in read_games(piece))
    with_visits = (game for game in found if isinstance(game, GameRecord) and any(game.visits))
    searched = Duplicates(config.duplicate_memory)
    for used in used_games(with_visits, config, Tally(), reader, num_readers):
        searched.is_new(used.hashed)
    return searched


def _mixed(pieces: Pieces, rng: np.random.Generator) -> Iterator[GameRecord | LeftOut]:
    """Yields the games of all pieces in random order, a few pieces at a time."""
    waiting = (read_games(pieces[int(i)]) for i in rng.permutation(len(pieces)))
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
    games: Iterator[GameRecord | LeftOut],
    config: PretrainConfig,
    tally: Tally,
    reader: int = 0,
    num_readers: int = 1,
    searched: Duplicates | None = None,
) -> Iterator[UsedGame]:
    """Yields the games of a reader that pass the filters of games.

    Args:
        games: all games of a pass.
        config: the filters.
        tally: counts what of a reader's is left out; reader 0 has what is no game.
        reader: number of the reader.
        num_readers: readers that share the games.
        searched: games of which only a record with visits is used. None: there are none.
    """
    duplicates = Duplicates(config.duplicate_memory)
    for at, game in enumerate(games):
        if isinstance(game, LeftOut):
            if reader == 0:
                tally.leave_out(*game)
            continue
        hashed = game_hash(game)
        if (hashed >> 32) % num_readers != reader:
            continue
        # Before it is remembered: else it would hide a record of the same game that has a result.
        decided = with_result(game)
        cause = _cause_against(decided, config) if decided else Cause.NO_RESULT
        is_hidden = searched is not None and hashed in searched and not any(game.visits)
        if cause is None and (is_hidden or not duplicates.is_new(hashed)):
            cause = Cause.DUPLICATE
        if cause is not None or decided is None:
            tally.leave_out(cause or Cause.NO_RESULT, game.place)
            continue
        yield UsedGame(decided, hashed, at)


def learned_games(
    used: Iterator[UsedGame], config: PretrainConfig, tally: Tally
) -> Iterator[UsedGame]:
    """Yields the games that are not held out, and counts the others."""
    for one in used:
        if is_held_out(one.hashed, config.held_out):
            tally.leave_out(Cause.HELD_OUT)
        else:
            yield one


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
