"""Matches: many games at once between two players, each opening from both colours.

Games 2k and 2k + 1 are a pair: they start from the same opening, random or from a book, and the
first player is Black in one and White in the other. Every scheduled game is played to its end
and counted. A lane that becomes free when all games have been started stays empty, so short games
do not weigh more than long ones.

A game depends on the seed, its pair and the colours of the players. It does not depend on the
number of lanes, except for the last bits of a network's output in another batch. Exchanging the
players (with their streams) plays the same games, so the score becomes 1 - score exactly.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.evaluation.pair_outcomes import pair_counts
from keisei_ray.evaluation.score_intervals import score_interval
from keisei_ray.players.player import Player
from keisei_ray.rollouts.finished_game import GameEndReason, GameResult
from keisei_ray.shogi.game import STANDARD_SFEN, Opening, open_game, play_opening
from keisei_ray.shogi.vector_games import GameEnd, VectorGames
from keisei_ray.storage.manifest import Scalar
from keisei_ray.telemetry.reports import MatchScore

Outcome = Literal["win", "draw", "loss", "truncated"]
SCORES: dict[Outcome, float] = {"win": 1.0, "draw": 0.5, "truncated": 0.5, "loss": 0.0}
"""Points of each outcome. A game cut by the ply cap counts as a draw and is reported apart."""

MAX_PLIES = 512
"""Plies, opening included, after which an evaluation game is truncated."""
RANDOM_OPENING_PLIES = 8
"""Largest number of random plies before a pair of games, drawn from 0 to this."""
NUM_LANES = 64
"""Games played side by side."""

_OPENING_STREAM, _MOVE_STREAM = 0, 1
"""Spawn keys that keep openings and players' draws apart."""
_MAX_REPEATS = 100
"""Repeated openings drawn in a row before one is accepted, as there are hardly any others."""


@dataclass(frozen=True)
class PlayedGame:
    """One finished game of a match, seen by the first player."""

    index: int
    """Place in the schedule, from 0."""
    is_black: bool
    """Whether the first player was Black."""
    outcome: Outcome
    """Outcome for the first player."""
    reason: GameEndReason
    """Rule that ended the game."""
    plies: int
    """Length in plies, opening included."""
    opening_plies: int
    """Plies at the start that neither player chose."""
    moves: str
    """All moves in USI notation, separated by spaces."""
    start_sfen: str = ""
    """Position before the opening; empty for the standard position."""

    @property
    def result(self) -> GameResult:
        """Result by colour."""
        if self.outcome in ("draw", "truncated"):
            return "draw" if self.outcome == "draw" else "truncated"
        return "black_win" if self.is_black == (self.outcome == "win") else "white_win"

    @property
    def score(self) -> float:
        """Points of the first player: 1, 0.5 or 0."""
        return SCORES[self.outcome]

    @property
    def pair(self) -> int:
        """Number of the pair, and of the opening."""
        return self.index // 2


@dataclass(frozen=True)
class MatchSettings:
    """Conditions of a match; a score means nothing without them."""

    num_games: int
    """Games of the match; even, since every opening is played from both colours."""
    seed: int
    """Seed of openings and of the players' random choices."""
    max_plies: int = MAX_PLIES
    """Plies, opening included, after which a game is truncated."""
    random_opening_plies: int = RANDOM_OPENING_PLIES
    """Largest number of random plies before a pair of games, drawn from 0 to this."""
    is_paired: bool = True
    """Whether games 2k and 2k + 1 start from one opening; else each game has an opening of its own,
    and the players still change colours."""
    book: OpeningBook | None = None
    """Book whose openings replace the random plies, read for a `max_plies` no higher than here."""

    def __post_init__(self) -> None:
        if self.num_games < 2 or self.num_games % 2:
            raise ValueError(f"num_games = {self.num_games}: expected an even number, 2 or more.")

    @property
    def num_openings(self) -> int:
        """Openings that the games start from."""
        return self.num_games // 2 if self.is_paired else self.num_games

    def describe_openings(self) -> dict[str, Scalar]:
        """Returns where games start, as entries of a results file."""
        if self.book is None:
            return {"random_opening_plies": self.random_opening_plies}
        return {"random_opening_plies": 0, **self.book.describe()}


def play_match(
    players: tuple[Player, Player],
    settings: MatchSettings,
    *,
    streams: tuple[int, int] = (0, 1),
    num_lanes: int = NUM_LANES,
) -> Iterator[PlayedGame]:
    """Plays a match and yields each game as it ends. A caller that stops iterating ends the match.

    The arguments are those of `play_plies`.
    """
    plies = play_plies(players, settings, streams=streams, num_lanes=num_lanes)
    return itertools.chain.from_iterable(plies)


def play_plies(
    players: tuple[Player, Player],
    settings: MatchSettings,
    *,
    streams: tuple[int, int] = (0, 1),
    num_lanes: int = NUM_LANES,
) -> Iterator[list[PlayedGame]]:
    """Plays a match ply by ply, in all games side by side.

    Args:
        players: first and second. Each is asked once per ply, for all positions in which it is
            to move.
        settings: games, openings and ply cap.
        streams: number of each player's own random stream. Players exchanged together with
            their streams play the same games.
        num_lanes: games side by side.

    Yields:
        The games that a ply ended, where it ended any: `settings.num_games` if exhausted, each
        index once, in the order in which they end.
    """
    openings = distinct_openings(settings)
    games = VectorGames(
        min(num_lanes, settings.num_games),
        max_plies=settings.max_plies,
        # Games beyond the schedule fill lanes that would stay empty; they are not looked at.
        start_game=lambda index: play_opening(
            openings[(index // 2 if settings.is_paired else index) % len(openings)],
            max_plies=settings.max_plies,
            index=index,
        ),
    )
    draws: dict[int, tuple[np.random.Generator, np.random.Generator]] = {}
    num_left = settings.num_games
    while num_left:
        lanes = np.flatnonzero(games.game_index < settings.num_games)
        first_is_black = games.game_index[lanes] % 2 == 0
        first_moves = first_is_black == (games.turns[lanes] == 0)
        choices = np.zeros(games.num_games, dtype=np.int64)
        for side, player in enumerate(players):
            asked = lanes[first_moves == (side == 0)]
            if not len(asked):
                continue
            uniforms = np.empty(len(asked))
            for i, index in enumerate(games.game_index[asked].tolist()):
                if index not in draws:
                    draws[index] = _move_rngs(settings.seed, index, streams)
                uniforms[i] = draws[index][side].random()
            choices[asked] = player.choose(games, asked, uniforms)
        ends = games.step(choices).finished
        if ended := [_played(end) for end in ends if end.index < settings.num_games]:
            for game in ended:
                draws.pop(game.index, None)
            num_left -= len(ended)
            yield ended


def distinct_openings(settings: MatchSettings) -> list[Opening]:
    """Returns one opening per pair, or per game; no two lead to the same position.

    Deterministic players would play such games twice, and the interval would treat them as
    independent. Openings repeat only if there are fewer than pairs.
    """
    if settings.book is not None:
        return settings.book.draw(settings.num_openings, _rng(settings.seed, _OPENING_STREAM))
    seen: set[str] = set()
    openings: list[Opening] = []
    number = repeats = 0
    while len(openings) < settings.num_openings:
        game = open_game(
            STANDARD_SFEN,
            _rng(settings.seed, _OPENING_STREAM, number),
            random_opening_plies=settings.random_opening_plies,
            max_plies=settings.max_plies,
        )
        position = game.board.to_sfen()
        if position not in seen or repeats >= _MAX_REPEATS:
            seen.add(position)
            openings.append(Opening(game.sfen, game.moves_usi()))
            repeats = 0
        else:
            repeats += 1
        number += 1
    return openings


def pair_scores(games: Sequence[PlayedGame]) -> list[float]:
    """Returns the first player's mean score in each pair of which both games are given."""
    return [sum(scores) / 2 for scores in _whole_pairs(games)]


def _whole_pairs(games: Sequence[PlayedGame]) -> list[tuple[float, float]]:
    """Returns the first player's scores in each pair of which both games are given."""
    pairs: dict[int, list[float]] = {}
    for game in games:
        pairs.setdefault(game.pair, []).append(game.score)
    return [(s[0], s[1]) for _, s in sorted(pairs.items()) if len(s) == 2]


def match_score(games: Sequence[PlayedGame], *, wall_time_s: float) -> MatchScore:
    """Returns the score of a whole match for its first player.

    Args:
        games: all games of the match, in any order.
        wall_time_s: seconds that the match took.
    """
    outcomes = Counter(game.outcome for game in games)
    interval = score_interval(pair_scores(games))
    return MatchScore(
        games=len(games),
        wins=outcomes["win"],
        draws=outcomes["draw"],
        losses=outcomes["loss"],
        truncated=outcomes["truncated"],
        score=_mean([game.score for game in games]),
        score_low=interval.low,
        score_high=interval.high,
        mean_plies=_mean([float(game.plies) for game in games]),
        as_black_score=_mean([game.score for game in games if game.is_black]),
        as_white_score=_mean([game.score for game in games if not game.is_black]),
        wall_time_s=wall_time_s,
        pairs=pair_counts(_whole_pairs(games)),
    )


def check_num_games(num_games: int) -> None:
    """Refuses the `--games` of a command if pairs cannot be made of them.

    Raises:
        ConfigError: odd, or fewer than 2.
    """
    if num_games < 2 or num_games % 2:
        raise ConfigError(
            f"--games {num_games}: expected an even number, since every opening is played from "
            f"both colours. Use {num_games + 1}."
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _played(end: GameEnd) -> PlayedGame:
    """Returns the end of a game from the first player's point of view."""
    is_black = end.index % 2 == 0
    outcome: Outcome
    if end.result in ("draw", "truncated"):
        outcome = "draw" if end.result == "draw" else "truncated"
    else:
        outcome = "win" if is_black == (end.result == "black_win") else "loss"
    return PlayedGame(
        index=end.index,
        is_black=is_black,
        outcome=outcome,
        reason=end.reason,
        plies=end.plies,
        opening_plies=end.opening_plies,
        moves=end.moves,
        start_sfen="" if end.sfen == STANDARD_SFEN else end.sfen,
    )


def _move_rngs(
    seed: int, index: int, streams: tuple[int, int]
) -> tuple[np.random.Generator, np.random.Generator]:
    """Returns both players' generators; each depends on stream, pair and the player's colour."""
    pair, first_color = index // 2, index % 2
    return (
        _rng(seed, _MOVE_STREAM, streams[0], pair, first_color),
        _rng(seed, _MOVE_STREAM, streams[1], pair, 1 - first_color),
    )


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
