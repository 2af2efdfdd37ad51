"""The command `ladder`: every player against every other, and one Elo table of them all.

P players give P * (P - 1) / 2 matches. Neighbors in the list of players meet first, so that the
matches played before an interrupt connect all players met so far. The openings of a match depend
on the seed and on the names of its two players only.
"""

import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from keisei_ray.config.player_spec import PlayerSpec, parse_player
from keisei_ray.errors import CheckpointError, ConfigError, RunDirError
from keisei_ray.evaluation.ladder_results import LadderMatch, LadderResults
from keisei_ray.evaluation.matches import (
    MAX_PLIES,
    MatchSettings,
    check_num_games,
    match_score,
    play_match,
)
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.evaluation.run_matches import record
from keisei_ray.evaluation.summary import plain
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.players.player import Player, checkpoint_player, network_name, open_player
from keisei_ray.storage import checkpoint
from keisei_ray.storage.manifest import Scalar
from keisei_ray.storage.run_layout import CHECKPOINT_GLOB, CHECKPOINTS_DIR, timestep_of
from keisei_ray.telemetry.visible_text import visible

logger = logging.getLogger(__name__)

SHOWN_PAIRS: Final = 8
"""Matches in the table of those that the ratings explain least."""


@dataclass(frozen=True)
class LadderOptions:
    """Arguments of the command `ladder`."""

    players: Sequence[str]
    """Players, as `parse_player` reads them."""
    run_dir: Path | None
    """Run whose intact checkpoints all play too; None: no run."""
    finish_mates: bool
    """Whether each checkpoint, of `players` or of the run, also plays a second time, with every
    mate in one."""
    num_games: int
    """Games of each match; even."""
    seed: int
    """Seed of openings and random choices."""
    temperature: float
    """Temperature of all networks, see `player.checkpoint_player`."""
    file: Path | None
    """File for the results; matches that it holds already are not played again."""
    max_plies: int = MAX_PLIES
    """Plies, opening included, after which a game is truncated and counts half."""
    openings: Path | None = None
    """Book of openings that games start from; after random plies if None."""


@dataclass(frozen=True)
class LadderPlayer:
    """A player that takes part in several matches."""

    name: str
    """Name in the results."""
    identity: dict[str, Scalar]
    """Digest of the weights, or the name that an engine gives itself."""
    open: Callable[[], Player]
    """Makes the player ready for one match; it is closed after the match."""


def ladder(options: LadderOptions, console: Console) -> tuple[dict[str, Any], bool]:
    """Plays the matches that are missing, writes the results after each, and shows the tables.

    Args:
        options: what to play.
        console: where progress and tables are drawn.

    Returns:
        The content of the results file, and whether an interrupt ended the ladder early. The
        match in progress then does not count.

    Raises:
        ConfigError: fewer than two players, an odd number of games, a bad book of openings, or a
            file with matches under other conditions.
        CheckpointError: a checkpoint is missing, damaged, or not what it says it is.
        PlayerError: a player is unknown or cannot be started.
    """
    check_num_games(options.num_games)
    named = [parse_player(text) for text in options.players]
    if options.finish_mates and options.run_dir is None and not any(map(_may_finish, named)):
        raise ConfigError(
            "--finish-mates: none of --players is a network that could. Name a checkpoint:PATH "
            "without +mate1 and ?simulations, or give --run-dir."
        )
    prepare_cpu(1)
    settings = _match_settings(options)
    results = LadderResults.open(options.file, _conditions(options, settings))
    players = _enter_players(options, results)
    if settings.book and (shortage := settings.book.shortage(options.num_games)):
        console.print(plain(shortage))
    missing = [(a, b) for a, b in schedule(players) if not results.has(a.name, b.name)]
    num_left, is_interrupted = len(missing), False
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("matches", total=len(missing))
        try:
            for a, b in missing:
                bar.update(task, description=escape(visible(f"{a.name} against {b.name}")))
                results.matches.append(_play(a, b, settings))
                num_left -= 1
                results.save(options.file)
                bar.advance(task)
        except KeyboardInterrupt:
            is_interrupted = True
    content = results.save(options.file)
    console.print(ratings_table(content), pairs_table(content))
    if is_interrupted:
        console.print(f"interrupted: {num_left} matches left; the same command goes on with them")
    return content, is_interrupted


def schedule(players: Sequence[LadderPlayer]) -> list[tuple[LadderPlayer, LadderPlayer]]:
    """Returns every two players once: neighbors first, then those two places apart, and so on."""
    count = len(players)
    return [
        (players[i + distance], players[i])
        for distance in range(1, count)
        for i in range(count - distance)
    ]


def find_players(options: LadderOptions) -> Iterator[LadderPlayer]:
    """Yields the players that were asked for.

    Each is made ready once, so that a mistake is found before the first match. A checkpoint of
    `options.run_dir` is named v12, a checkpoint of another run RUN/v12. Damaged ones of
    `options.run_dir` are skipped with a warning.

    Raises:
        CheckpointError, PlayerError: see `ladder`.
    """
    for text in options.players:
        spec = parse_player(text)
        with open_player(text, temperature=options.temperature) as player:
            if spec.kind == "checkpoint":
                yield _network(player, options.run_dir)
            else:
                yield LadderPlayer(text, player.identity, _opener(text, options.temperature))
        if options.finish_mates and _may_finish(spec):
            finishing = open_player(text, temperature=options.temperature, finish_mates=True)
            yield _network(finishing, options.run_dir)
    if options.run_dir is not None:
        yield from _networks_of_run(options, options.run_dir)


def _networks_of_run(options: LadderOptions, run_dir: Path) -> Iterator[LadderPlayer]:
    """Yields the networks of a run's intact checkpoints, oldest first."""
    if not os.path.isdir(run_dir):
        raise RunDirError(f"{run_dir} is not a directory, expected that of a run. Check the name.")
    directory = run_dir / CHECKPOINTS_DIR
    # By timestep: a checkpoint that was being replaced comes before its successor.
    paths = {
        timestep_of(path.stem): path
        for path in checkpoint.list_all(directory)
        if path.match(CHECKPOINT_GLOB)
    }
    if not paths:
        raise CheckpointError(f"{directory} holds no checkpoint. Train for longer.")
    is_any_intact = False
    for path in paths.values():
        try:
            players = [
                checkpoint_player(path, temperature=options.temperature, finish_mates=finishes)
                for finishes in ((False, True) if options.finish_mates else (False,))
            ]
        except CheckpointError as error:
            logger.warning("skipping checkpoint %s: %s", path, error)
            continue
        is_any_intact = True
        yield from (_network(player, run_dir) for player in players)
    if not is_any_intact:
        raise CheckpointError(
            f"{directory} holds no intact checkpoint ({len(paths)} damaged). Name another run."
        )


def _may_finish(spec: PlayerSpec) -> bool:
    """Returns whether a player is a network that does not find mates in one by itself."""
    return spec.kind == "checkpoint" and not spec.finishes_mates and spec.search is None


def ratings_table(content: dict[str, Any]) -> Table:
    """Returns the Elo table of a results file, for the terminal."""
    table = Table(title="Elo, 95% intervals")
    table.add_column("player", overflow="fold")
    for column in ("Elo", "from", "to", "games"):
        table.add_column(column, justify="right")
    for rating in content["ratings"]:
        elo, low, high = (
            "-" if value is None else f"{value:+.0f}"
            for value in (rating["elo"], rating["low"], rating["high"])
        )
        table.add_row(plain(rating["name"]), elo, low, high, str(rating["games"]))
    return table


def pairs_table(content: dict[str, Any]) -> Table:
    """Returns the matches that the ratings explain least, for the terminal."""
    pairs = content["pairs"]
    outside = sum(not pair["is_explained"] for pair in pairs)
    table = Table(
        title=f"Is it transitive? {outside} of {len(pairs)} matches outside their interval "
        "(1 in 20 or fewer expected); the farthest:"
    )
    for column in ("player", "opponent"):
        table.add_column(column, overflow="fold")
    for column in ("measured", "predicted"):
        table.add_column(column, no_wrap=True)
    for pair in pairs[:SHOWN_PAIRS]:
        measured = f"{pair['measured']:.1%} ({pair['low']:.1%} to {pair['high']:.1%})"
        mark = "" if pair["is_explained"] else " outside"
        players = (plain(pair["player"]), plain(pair["opponent"]))
        table.add_row(*players, measured, f"{pair['predicted']:.1%}{mark}")
    return table


def _match_settings(options: LadderOptions) -> MatchSettings:
    """Returns the settings that all matches share."""
    book = None
    if options.openings:
        book = OpeningBook.read(options.openings, max_plies=options.max_plies)
    return MatchSettings(options.num_games, options.seed, max_plies=options.max_plies, book=book)


def _conditions(options: LadderOptions, settings: MatchSettings) -> dict[str, Scalar]:
    """Returns what must be the same for matches to stand in one file."""
    return {
        "games": options.num_games,
        "seed": options.seed,
        "max_plies": options.max_plies,
        **settings.describe_openings(),
        "temperature": options.temperature,
    }


def _enter_players(options: LadderOptions, results: LadderResults) -> list[LadderPlayer]:
    """Adds the players to the results; a player that was named twice is returned once."""
    by_name: dict[str, LadderPlayer] = {}
    for player in find_players(options):
        results.add_player(player.name, player.identity)
        by_name.setdefault(player.name, player)
    if len(by_name) < 2:
        raise ConfigError(
            f"only {', '.join(by_name) or 'no player'}, expected at least two different players. "
            "Name more --players."
        )
    return list(by_name.values())


def _play(a: LadderPlayer, b: LadderPlayer, settings: MatchSettings) -> LadderMatch:
    """Plays one match with a seed of its own."""
    key = [zlib.crc32(player.name.encode()) for player in (a, b)]
    sequence = np.random.SeedSequence(settings.seed, spawn_key=tuple(key))
    settings = replace(settings, seed=int(sequence.generate_state(1)[0]))
    with ExitStack() as stack:
        players = (stack.enter_context(a.open()), stack.enter_context(b.open()))
        started = time.perf_counter()
        games = list(play_match(players, settings))
        score = match_score(games, wall_time_s=time.perf_counter() - started)
        record(players, score)
    reasons = dict(sorted(Counter(str(game.reason) for game in games).items()))
    return LadderMatch(a.name, b.name, score, reasons)


def _network(player: Player, run_dir: Path | None) -> LadderPlayer:
    """Returns a network under its name in the ladder. It stays loaded and needs no closing."""
    path = Path(str(player.identity["checkpoint"]))
    its_run = path.parent.parent if path.parent.name == CHECKPOINTS_DIR else path.parent
    name = network_name(player)
    if run_dir is None or its_run.resolve() != run_dir.resolve():
        name = f"{its_run.name}/{name}"
    identity = {"weights_digest": player.identity["weights_digest"]}
    return LadderPlayer(name, identity, lambda: player)


def _opener(text: str, temperature: float) -> Callable[[], Player]:
    return lambda: open_player(text, temperature=temperature)
