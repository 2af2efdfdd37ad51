"""The command `evaluate`: a match between two players, its result as a table and as JSON."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from keisei_ray.config.player_spec import parse_player
from keisei_ray.errors import ConfigError, UserError
from keisei_ray.evaluation.game_files import GameFiles, KifEncoding, make_directory
from keisei_ray.evaluation.matches import (
    MAX_PLIES,
    MatchSettings,
    PlayedGame,
    check_num_games,
    match_score,
    play_plies,
)
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.evaluation.run_matches import record
from keisei_ray.evaluation.sprt import Hypotheses, Sprt
from keisei_ray.evaluation.stopping import stoppable
from keisei_ray.evaluation.summary import plain, result_table, summarize
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.players.player import Player, checkpoint_player, open_player

Finishing = Literal["no", "yes", "both"]
"""Whether the player also plays every mate in one; both: one match without and one with."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Arguments of the command `evaluate`."""

    player: str
    """Player that is measured, as `parse_player` reads it."""
    opponent: str
    """Player on the other side, as `parse_player` reads it."""
    num_games: int = 100
    """Games of the match, even, half of them with each colour. If `sprt` may stop it, at most."""
    seed: int = 1
    """Seed of openings and random choices; the same seed plays the same match."""
    temperature: float = 0.0
    """Temperature of both players' networks, see `player.checkpoint_player`."""
    finish_mates: Finishing = "no"
    """Whether the player finishes mates; the text for the opponent says it for the opponent."""
    sprt: Hypotheses | None = None
    """Two Elo differences; the match stops as soon as it can tell which is nearer the truth."""
    records: Path | None = None
    """Directory for the finished games; None: games are not saved."""
    kif_encoding: KifEncoding = "utf-8"
    """Encoding of the saved games' KIF files: `.kifu` in UTF-8, `.kif` in Shift-JIS."""
    openings: Path | None = None
    """Book of openings that games start from; after random plies if None."""


def evaluate(options: EvaluateOptions, console: Console) -> dict[str, Any]:
    """Plays a match, or one bare and one finishing, and shows the result.

    Both are played by one network, also where its run saves a newer one meanwhile.

    SIGINT and SIGTERM, an engine that cannot be kept alive and a full disk end a match; the games
    finished by then are reported. Short games are over-represented among them, so such a score is
    a hint only.

    Args:
        options: what to play.
        console: where progress and result are drawn.

    Returns:
        The result, JSON-serializable, see `summary.summarize`; under "interrupted" whether a
        signal ended the match, under "error" another cause that ended it, or None. For two matches
        {"bare": ..., "finishing": ..., "interrupted": ..., "error": ...}.

    Raises:
        ConfigError: an odd number of games, a bad book, a directory that records cannot be
            written to, or an encoding of records that are not written.
        CheckpointError: a checkpoint is missing, damaged, or not what it says it is.
        PlayerError: a player is unknown or cannot be started.
    """
    check_num_games(options.num_games)
    if options.kif_encoding != "utf-8" and not options.records:
        raise ConfigError(
            f"--kif-encoding {options.kif_encoding}: expected --records DIR, whose KIF files it is "
            "about. Add it."
        )
    book = OpeningBook.read(options.openings, max_plies=MAX_PLIES) if options.openings else None
    settings = MatchSettings(num_games=options.num_games, seed=options.seed, book=book)
    if book and (shortage := book.shortage(options.num_games)):
        console.print(plain(shortage))
    # Games are played side by side and networks are small: more threads would wait for each other.
    prepare_cpu(1)
    open_opponent = _opener(options.opponent, options.temperature)
    if options.finish_mates != "both":
        player = open_player(
            options.player,
            temperature=options.temperature,
            finish_mates=options.finish_mates == "yes",
        )
        result = _evaluate(options, settings, player, open_opponent, options.records, console)
        console.print(result_table(result))
        return result
    # What can be refused is refused here, and not when the first match has been played.
    players = _open_bare_and_finishing(options)
    directories = {name: options.records / name if options.records else None for name in players}
    for directory in filter(None, directories.values()):
        make_directory(directory)
    results: dict[str, dict[str, Any]] = {}
    for name, player in players.items():
        results[name] = _evaluate(
            options, settings, player, open_opponent, directories[name], console
        )
        if results[name]["interrupted"] or results[name]["error"]:
            break
    console.print(result_table(*results.values()))
    last = list(results.values())[-1]
    return {**results, "interrupted": last["interrupted"], "error": last["error"]}


def _opener(text: str, temperature: float) -> Callable[[], Player]:
    """Returns what makes a player ready for each match: the same network, or an engine anew."""
    if parse_player(text).kind != "checkpoint":
        return lambda: open_player(text, temperature=temperature)
    player = open_player(text, temperature=temperature)
    return lambda: player


def _open_bare_and_finishing(options: EvaluateOptions) -> dict[str, Player]:
    """Returns the measured network twice, by the names of its results.

    Raises:
        PlayerError: the player is no network, or one that searches.
    """
    finishing = open_player(options.player, temperature=options.temperature, finish_mates=True)
    # Not by the text: a run that is training may have a newer checkpoint by now.
    path = str(finishing.identity["checkpoint"])
    return {
        "bare": checkpoint_player(path, temperature=options.temperature),
        "finishing": finishing,
    }


def _evaluate(
    options: EvaluateOptions,
    settings: MatchSettings,
    player: Player,
    open_opponent: Callable[[], Player],
    records: Path | None,
    console: Console,
) -> dict[str, Any]:
    """Plays one match and returns its result; closes the players."""
    test = Sprt(options.sprt) if options.sprt else None
    with player, open_opponent() as opponent:
        players = (player, opponent)
        files = (
            GameFiles(records, player.name, opponent.name, settings, options.kif_encoding)
            if records
            else None
        )
        started = time.perf_counter()
        played = _play(players, settings, test, files, console)
        wall_time_s = time.perf_counter() - started
    if files and files.num_replaced:
        console.print(
            f"{files.num_replaced} characters of the KIF files are not in Shift-JIS and are "
            "written as '?'. --kif-encoding utf-8 keeps them."
        )
    if len(played.games) == settings.num_games:
        note = record(players, match_score(played.games, wall_time_s=wall_time_s))
        if note:
            console.print(plain(note), soft_wrap=True)
    return summarize(players, settings, played.games, wall_time_s=wall_time_s) | {
        "temperature": options.temperature,
        "sprt": test.describe() if test else None,
        "interrupted": played.interrupted,
        "error": played.error,
    }


@dataclass
class _Played:
    """Finished games, and the cause that cut the match short."""

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
    """Plays until the schedule, the SPRT, a signal or an error ends the match."""
    played = _Played()
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    try:
        with bar, stoppable() as stop:
            task = bar.add_task("games", total=settings.num_games)
            for game in stop.interrupt(play_plies(players, settings), settings.num_games):
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
