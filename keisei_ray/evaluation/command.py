"""`evaluate` as a person calls it: two players, a match, a table and a record."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress

from keisei_ray.errors import ConfigError, UserError
from keisei_ray.evaluation.game_files import GameFiles
from keisei_ray.evaluation.matches import MAX_PLIES, MatchSettings, PlayedGame, play_match
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.evaluation.sprt import Hypotheses, Sprt
from keisei_ray.evaluation.summary import result_table, summarize
from keisei_ray.players.player import Player, open_player

Finishing = Literal["no", "yes", "both"]
"""Whether the player plays every mate in one it has; both: one match without and one with."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` is asked for."""

    player: str
    """Who is measured, see `player.open_player`."""
    opponent: str
    """Against whom; likewise."""
    num_games: int = 100
    """Even, half of them with each colour; the most, if a test may stop the match."""
    seed: int = 1
    """Of openings and random choices; the same seed plays the same match."""
    temperature: float = 0.0
    """See `player.checkpoint_player`; for both players."""
    finish_mates: Finishing = "no"
    """Of the player; the opponent's spec says its own."""
    sprt: Hypotheses | None = None
    """Stops the match as soon as it tells these two Elo differences apart."""
    records: Path | None = None
    """Where each finished game is saved."""
    openings: Path | None = None
    """The book that games start from, see `openings.OpeningBook`; after random plies if None."""


def evaluate(options: EvaluateOptions, console: Console) -> dict[str, Any]:
    """Plays a match, or one bare and one finishing, and shows what it says of the player.

    SIGINT and SIGTERM, an engine that cannot be kept alive and a full disk end a match; the games
    that were finished are reported. Among those short games are over-represented, so such a
    score is a hint only.

    Args:
        options: what to play.
        console: where progress and result are drawn.

    Returns:
        The result, JSON-serializable, see `summary.summarize`; under "interrupted" whether a
        signal ended it, under "error" what else did, or None. Of two matches {"bare": ...,
        "finishing": ..., "interrupted": ..., "error": ...}.

    Raises:
        ConfigError: an odd number of games, a bad book, or a directory that records cannot be
            written to.
        CheckpointError: a checkpoint is missing, damaged, or not what it says it is.
        PlayerError: a player is unknown or not available.
    """
    if options.num_games < 2 or options.num_games % 2:
        raise ConfigError(
            f"--games {options.num_games}: expected an even number, since every opening is "
            f"played from both colours. Use {options.num_games + 1}."
        )
    book = OpeningBook.read(options.openings, max_plies=MAX_PLIES) if options.openings else None
    settings = MatchSettings(num_games=options.num_games, seed=options.seed, book=book)
    if book and (shortage := book.shortage(options.num_games)):
        console.print(shortage, markup=False)
    # Games run in lockstep and nets are small: more threads wait for each other.
    torch.set_num_threads(1)
    if options.finish_mates != "both":
        finishes = options.finish_mates == "yes"
        result = _evaluate(options, settings, finishes, options.records, console)
        console.print(result_table(result))
        return result
    results: dict[str, dict[str, Any]] = {}
    for name, finishes in (("bare", False), ("finishing", True)):
        records = options.records / name if options.records else None
        results[name] = _evaluate(options, settings, finishes, records, console)
        if results[name]["interrupted"] or results[name]["error"]:
            break
    console.print(result_table(*results.values()))
    last = list(results.values())[-1]
    return {**results, "interrupted": last["interrupted"], "error": last["error"]}


def _evaluate(
    options: EvaluateOptions,
    settings: MatchSettings,
    finishes: bool,
    records: Path | None,
    console: Console,
) -> dict[str, Any]:
    """One match and its result."""
    test = Sprt(options.sprt) if options.sprt else None
    with (
        open_player(
            options.player, temperature=options.temperature, finish_mates=finishes
        ) as player,
        open_player(options.opponent, temperature=options.temperature) as opponent,
    ):
        players = (player, opponent)
        files = GameFiles(records, player.name, opponent.name, settings) if records else None
        started = time.perf_counter()
        played = _play(players, settings, test, files, console)
        wall_time_s = time.perf_counter() - started
    return summarize(players, settings, played.games, wall_time_s=wall_time_s) | {
        "temperature": options.temperature,
        "sprt": test.describe() if test else None,
        "interrupted": played.interrupted,
        "error": played.error,
    }


@dataclass
class _Played:
    """The finished games, and what cut the match short."""

    games: list[PlayedGame] = field(default_factory=list)
    interrupted: bool = False
    error: str | None = None


def _play(
    players: tuple[Player, Player],
    settings: MatchSettings,
    test: Sprt | None,
    files: GameFiles | None,
    console: Console,
) -> _Played:
    """Plays until the schedule, the test, a signal or an error ends the match."""
    played = _Played()
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    try:
        with bar, _stoppable() as stop:
            task = bar.add_task("games", total=settings.num_games)
            for game in stop.interrupt(play_match(players, settings)):
                played.games.append(game)
                bar.advance(task)
                if files:
                    files.save(game)
                if test:
                    test.add(game)
                    if test.accepted:
                        break
    except KeyboardInterrupt:
        played.interrupted = True
    except UserError as error:
        played.error = str(error)
    return played


class _Stop:
    """A signal handler that interrupts the play, and waits while a finished game is dealt with."""

    def __init__(self) -> None:
        self._is_set = False
        self._is_playing = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._is_set = True
        if self._is_playing:
            raise KeyboardInterrupt

    def interrupt(self, match: Iterator[PlayedGame]) -> Iterator[PlayedGame]:
        """The match's games; raises KeyboardInterrupt when a signal has come."""
        while True:
            self._is_playing = True
            if self._is_set:
                raise KeyboardInterrupt
            game = next(match, None)
            self._is_playing = False
            if game is None:
                return
            yield game


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stop]:
    """SIGINT and SIGTERM stop the match; the former handlers come back afterwards."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Only the main thread may set handlers.
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
