"""The command `generate`: games between two players, as files of records to learn from.

The games are those of a match (`matches.py`). They are written when they end, so an interrupt keeps
all that have ended.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from keisei_ray.errors import ConfigError, UserError
from keisei_ray.evaluation.matches import (
    MAX_PLIES,
    RANDOM_OPENING_PLIES,
    MatchSettings,
    PlayedGame,
    check_num_games,
    play_plies,
)
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.evaluation.stopping import stoppable
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import NO_JUDGEMENT, Ints, Judgement, Uniforms
from keisei_ray.records import RECORD_FORMATS, RecordFormat
from keisei_ray.records.writers import RecordFiles, WrittenGame
from keisei_ray.shogi.vector_games import VectorGames


@dataclass(frozen=True)
class GenerateOptions:
    """Arguments of the command `generate`."""

    player: str
    """One player, as `parse_player` reads it."""
    out: Path
    """Directory of the files."""
    opponent: str | None = None
    """The other player; None: the same."""
    num_games: int = 100
    """Number of games, even; the players change colours after each."""
    seed: int = 1
    """Seed of openings and random choices."""
    opening_plies: int = RANDOM_OPENING_PLIES
    """Largest number of random plies at the start."""
    openings: Path | None = None
    """Book of openings in place of random plies."""
    max_plies: int = MAX_PLIES
    """Plies, opening included, after which a game is cut and counts as a draw."""
    temperature: float = 0.0
    """Temperature of networks, see `player.checkpoint_player`."""
    formats: tuple[RecordFormat, ...] = RECORD_FORMATS
    """Formats of the files."""


def generate(options: GenerateOptions, console: Console) -> dict[str, Any]:
    """Plays the games and writes each as it ends; SIGINT and SIGTERM end the command.

    Args:
        options: what to play.
        console: where progress is drawn.

    Returns:
        What was written, JSON-serializable; under "interrupted" whether a signal ended it, under
        "error" another cause that did, or None.

    Raises:
        ConfigError: an odd number of games, a bad book, or a directory that cannot be used.
        CheckpointError: a checkpoint is missing, damaged, or not what it says it is.
        PlayerError: a player is unknown or cannot be started.
    """
    check_num_games(options.num_games)
    if options.opening_plies >= options.max_plies:
        raise ConfigError(
            f"--opening-plies {options.opening_plies}: expected less than --max-plies "
            f"{options.max_plies}, so that there is something to play."
        )
    book = (
        OpeningBook.read(options.openings, max_plies=options.max_plies)
        if options.openings
        else None
    )
    is_mirror = options.opponent in (None, options.player)
    settings = MatchSettings(
        options.num_games,
        options.seed,
        max_plies=options.max_plies,
        random_opening_plies=options.opening_plies,
        # A player against itself could play both games of a pair alike.
        is_paired=not is_mirror,
        book=book,
    )
    prepare_cpu(1)
    with open_player(options.player, temperature=options.temperature) as first:
        if is_mirror:
            return _generate((first, first), settings, options, console)
        assert options.opponent is not None
        with open_player(options.opponent, temperature=options.temperature) as second:
            return _generate((first, second), settings, options, console)


class Judgements:
    """Judgements of the players of a match about the positions in which they move."""

    def __init__(self) -> None:
        """Starts with none."""
        self._by_game: dict[int, dict[int, Judgement]] = {}

    def watching(self, player: Player) -> Player:
        """Returns the player, whose judgements are kept from now on."""
        read = player.judgements
        if read is None:
            return player

        def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
            choices = player.choose(games, lanes, uniforms)
            for lane, judgement in zip(lanes.tolist(), read(), strict=True):
                judged = self._by_game.setdefault(int(games.game_index[lane]), {})
                judged[int(games.plies[lane])] = judgement
            return choices

        return replace(player, choose=choose)

    def take(self, game: PlayedGame) -> list[Judgement]:
        """Returns those of a game that has ended, and forgets them.

        Returns:
            One for each of its moves; empty if no player judged anything.
        """
        judged = self._by_game.pop(game.index, {})
        return [judged.get(ply, NO_JUDGEMENT) for ply in range(game.plies)] if judged else []


def _generate(
    players: tuple[Player, Player],
    settings: MatchSettings,
    options: GenerateOptions,
    console: Console,
) -> dict[str, Any]:
    """Plays until the last game, a signal or an error."""
    judgements = Judgements()
    watched = (judgements.watching(players[0]), judgements.watching(players[1]))
    names = (players[0].name, players[1].name)
    results: Counter[str] = Counter()
    positions = 0
    interrupted, failure = False, None
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with RecordFiles(options.out, options.formats) as files:
        try:
            with bar, stoppable() as stop:
                task = bar.add_task("games", total=settings.num_games)
                for game in stop.interrupt(play_plies(watched, settings), settings.num_games):
                    files.save(written(game, names, judgements.take(game)))
                    results[game.result] += 1
                    positions += game.plies - game.opening_plies
                    bar.advance(task)
        except KeyboardInterrupt:
            interrupted = True
        except UserError as error:
            failure = str(error)
    summary = {
        "out": str(options.out),
        "formats": list(options.formats),
        "players": list(names),
        "games": results.total(),
        "results": dict(results),
        "positions": positions,
        "seed": settings.seed,
        **settings.describe_openings(),
        "interrupted": interrupted,
        "error": failure,
    }
    console.print(_told(summary), soft_wrap=True, highlight=False, markup=False)
    return summary


def written(
    game: PlayedGame, names: Sequence[str], judgements: Sequence[Judgement] = ()
) -> WrittenGame:
    """Returns a game of a match as it is written to files.

    Args:
        game: the game.
        names: the match's first and second player.
        judgements: what the players found before each move; empty: nothing at all.
    """
    first, second = names
    evals = tuple(judgement.evaluation for judgement in judgements)
    visits = tuple(judgement.visits for judgement in judgements)
    black, white = (first, second) if game.is_black else (second, first)
    return WrittenGame(
        index=game.index,
        black=black,
        white=white,
        result=game.result,
        reason=game.reason,
        plies=game.plies,
        opening_plies=game.opening_plies,
        moves=game.moves,
        start_sfen=game.start_sfen,
        evals=evals,
        visits=visits if any(visits) else (),
    )


def _told(summary: dict[str, Any]) -> str:
    results = ", ".join(f"{n} {name}" for name, n in sorted(summary["results"].items()))
    return (
        f"{summary['games']} games ({results or 'none'}), {summary['positions']:,} positions in "
        f"{summary['out']}: {', '.join(summary['formats'])}"
    )
