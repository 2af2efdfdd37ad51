"""Matches: many games at once between two players, each opening from both colours.

Games 2k and 2k + 1 are a pair: they start from the same opening, random or out of a book, the
first player is Black in one and White in the other. Every scheduled game is played to its end
and counted; a lane whose turn comes when all have been started is retired, so short games weigh
no more than long ones.

A game depends on the seed, its pair, and who sits where; not on the number of lanes, save for
the last bits of a network's output in another batch. Exchanging the players (with their
streams) plays the same games, so the score becomes 1 - score exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.players.player import Player
from keisei_ray.rollouts.finished_game import GameEndReason, GameResult
from keisei_ray.shogi.game import STANDARD_SFEN, Opening, open_game, play_opening
from keisei_ray.shogi.vector_games import GameEnd, VectorGames
from keisei_ray.storage.manifest import Scalar

Outcome = Literal["win", "draw", "loss", "truncated"]
SCORES: dict[Outcome, float] = {"win": 1.0, "draw": 0.5, "truncated": 0.5, "loss": 0.0}
"""A game cut by the ply cap counts as a draw, and is reported apart."""

MAX_PLIES = 512
"""Plies, opening included, after which an evaluation game is truncated."""
RANDOM_OPENING_PLIES = 8
"""Each pair starts after 0 to this many random plies."""
NUM_LANES = 64
"""Games played side by side."""

_OPENING_STREAM, _MOVE_STREAM = 0, 1
"""Spawn keys that keep openings and players' draws apart."""
_MAX_REPEATS = 100
"""Repeated openings drawn in a row before one is accepted: there are hardly others."""


@dataclass(frozen=True)
class PlayedGame:
    """One finished game of a match, seen by the first player."""

    index: int
    """Its place in the schedule."""
    is_black: bool
    """Whether the first player was Black."""
    outcome: Outcome
    """For the first player."""
    reason: GameEndReason
    """By which rule it ended."""
    plies: int
    """Length, the opening included."""
    opening_plies: int
    """Plies at the start that neither player chose."""
    moves: str
    """All plies as USI, space separated."""
    start_sfen: str = ""
    """Where it began, before the opening; empty for the standard position."""

    @property
    def result(self) -> GameResult:
        """Who won, absolutely."""
        if self.outcome in ("draw", "truncated"):
            return "draw" if self.outcome == "draw" else "truncated"
        return "black_win" if self.is_black == (self.outcome == "win") else "white_win"

    @property
    def score(self) -> float:
        """To the first player: 1, 0.5 or 0."""
        return SCORES[self.outcome]

    @property
    def pair(self) -> int:
        """Which opening it was played from."""
        return self.index // 2


@dataclass(frozen=True)
class MatchSettings:
    """Under which conditions a match is played; a score means nothing without them."""

    num_games: int
    """Even: every opening is played from both colours."""
    seed: int
    """Root of openings and players' draws."""
    max_plies: int = MAX_PLIES
    """Plies, opening included, after which a game is truncated."""
    random_opening_plies: int = RANDOM_OPENING_PLIES
    """Each pair starts after 0 to this many random plies."""
    book: OpeningBook | None = None
    """Each pair starts from one of these instead. Read for a `max_plies` no higher than here."""

    def __post_init__(self) -> None:
        if self.num_games < 2 or self.num_games % 2:
            raise ValueError(f"num_games = {self.num_games}: expected an even number, 2 or more.")

    def describe_openings(self) -> dict[str, Scalar]:
        """Where games start, as it stands in results."""
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
    """Plays a match, yielding each game as it ends; stop iterating and the rest is not played.

    Args:
        players: first and second. Each is asked once a ply for all positions it is to move in.
        settings: games, openings and cap.
        streams: number of each player's own random stream. Players exchanged together with
            their streams play the same games.
        num_lanes: games side by side.

    Yields:
        `settings.num_games` games if exhausted, each index once, in order of ending.
    """
    openings = distinct_openings(settings)
    games = VectorGames(
        min(num_lanes, settings.num_games),
        max_plies=settings.max_plies,
        # Games beyond the schedule fill retired lanes and are not looked at.
        start_game=lambda index: play_opening(
            openings[index // 2 % len(openings)], max_plies=settings.max_plies, index=index
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
        for end in games.step(choices).finished:
            if end.index < settings.num_games:
                draws.pop(end.index, None)
                num_left -= 1
                yield _played(end)


def distinct_openings(settings: MatchSettings) -> list[Opening]:
    """One opening a pair; no two lead to one position.

    Deterministic players would play such games twice, and the interval take them for
    independent. Where a start or a book has fewer openings than pairs are needed, they repeat.
    """
    num_pairs = settings.num_games // 2
    if settings.book is not None:
        return settings.book.draw(num_pairs, _rng(settings.seed, _OPENING_STREAM))
    seen: set[str] = set()
    openings: list[Opening] = []
    number = repeats = 0
    while len(openings) < num_pairs:
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
    """The first player's mean score in each pair of which both games are there."""
    pairs: dict[int, list[float]] = {}
    for game in games:
        pairs.setdefault(game.pair, []).append(game.score)
    return [sum(scores) / 2 for _, scores in sorted(pairs.items()) if len(scores) == 2]


def _played(end: GameEnd) -> PlayedGame:
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
    """Both players' draws in a game; a player's depend on its stream, the pair and its colour."""
    pair, first_color = index // 2, index % 2
    return (
        _rng(seed, _MOVE_STREAM, streams[0], pair, first_color),
        _rng(seed, _MOVE_STREAM, streams[1], pair, 1 - first_color),
    )


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
