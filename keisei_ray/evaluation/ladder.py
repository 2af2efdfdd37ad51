"""`ladder` as a person calls it: everybody against everybody, and one Elo table of them all.

A round robin: P players are P * (P - 1) / 2 matches, those of neighbors in the list first, so
that what was played when somebody interrupts hangs together. Each match has openings of its
own, which depend on the seed and the two names alone.
"""

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from keisei_ray.config.player_names import FINISHING_SUFFIX
from keisei_ray.errors import CheckpointError, ConfigError
from keisei_ray.evaluation.background import match_score
from keisei_ray.evaluation.ladder_book import LadderBook, LadderMatch
from keisei_ray.evaluation.matches import MAX_PLIES, MatchSettings, play_match
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.players.player import Player, checkpoint_player, open_player
from keisei_ray.storage.run_layout import CHECKPOINT_GLOB, CHECKPOINTS_DIR

SHOWN_PAIRS = 8


@dataclass(frozen=True)
class Entrant:
    """Somebody who can be asked to play several matches."""

    name: str
    identity: dict[str, Any]
    open: Callable[[], Player]
    """For one match; the player is closed after it."""


def ladder(
    *,
    players: Sequence[str],
    run_dir: Path | None,
    finish_mates: bool,
    num_games: int,
    seed: int,
    temperature: float,
    file: Path | None,
    console: Console,
    max_plies: int = MAX_PLIES,
    openings: Path | None = None,
) -> tuple[dict[str, Any], bool]:
    """Plays what is missing, writing results after every match, and shows the table.

    Args:
        players: as for `player.open_player`.
        run_dir: all intact checkpoints of this run play too.
        finish_mates: and each of those once more with every mate in one it has.
        num_games: of each match; even.
        seed: of openings and random choices.
        temperature: of all networks, see `player.checkpoint_player`.
        file: of results; matches that stand in it are not played again.
        console: where progress and tables are drawn.
        max_plies: plies, opening included, after which a game is truncated and counts half.
        openings: a book that games start from, see `openings.OpeningBook`; after random plies
            if None.

    Returns:
        What stands in the file, and whether an interrupt ended the ladder early. Of the match
        under way then nothing counts.

    Raises:
        ConfigError: fewer than two players, an odd number of games, a bad book of openings, or a
            file of other matches.
        CheckpointError: a checkpoint is missing, damaged, or not what it says it is.
        PlayerError: an opponent is unknown or cannot be had.
    """
    if num_games < 2 or num_games % 2:
        raise ConfigError(
            f"--games {num_games}: expected an even number, since every opening is played from "
            f"both colours. Use {num_games + 1}."
        )
    torch.set_num_threads(1)
    settings = MatchSettings(
        num_games,
        seed,
        max_plies=max_plies,
        book=OpeningBook.read(openings, max_plies=max_plies) if openings else None,
    )
    conditions = {
        "games": num_games,
        "seed": seed,
        "max_plies": max_plies,
        **settings.describe_openings(),
        "temperature": temperature,
    }
    book = LadderBook.open(file, conditions)
    found = find_entrants(players, run_dir, finish_mates=finish_mates, temperature=temperature)
    by_name: dict[str, Entrant] = {}
    for entrant in found:
        book.enter(entrant.name, entrant.identity)
        by_name.setdefault(entrant.name, entrant)
    entrants = list(by_name.values())
    if len(entrants) < 2:
        raise ConfigError(f"{len(entrants)} players, expected at least two. Name more --players.")
    if settings.book and (shortage := settings.book.shortage(num_games)):
        console.print(shortage, markup=False)
    interrupted, num_kept = False, len(book.matches)
    missing = [(a, b) for a, b in schedule(entrants) if not book.has(a.name, b.name)]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("matches", total=len(missing))
        try:
            for a, b in missing:
                bar.update(task, description=f"{a.name} against {b.name}")
                book.matches.append(_play(a, b, settings))
                book.save(file)
                bar.advance(task)
        except KeyboardInterrupt:
            interrupted = True
    content = book.save(file)
    console.print(ratings_table(content), pairs_table(content))
    if interrupted:
        left = len(missing) - (len(book.matches) - num_kept)
        console.print(f"interrupted: {left} matches left; the same command goes on with them")
    return content, interrupted


def schedule(entrants: Sequence[Entrant]) -> list[tuple[Entrant, Entrant]]:
    """Every two of them once: neighbors first, then those two places apart, and so on."""
    count = len(entrants)
    return [
        (entrants[i + distance], entrants[i])
        for distance in range(1, count)
        for i in range(count - distance)
    ]


def find_entrants(
    players: Sequence[str], run_dir: Path | None, *, finish_mates: bool, temperature: float
) -> Iterator[Entrant]:
    """Those that a person named, each tried once so that a mistake is known before any match.

    A checkpoint of `run_dir` is called v12, one of another run RUN/v12.

    Raises:
        CheckpointError, PlayerError: see `ladder`.
    """
    for spec in players:
        with open_player(spec, temperature=temperature) as player:
            if "checkpoint" in player.identity:
                yield _network(player, run_dir)
            else:
                yield Entrant(spec, player.identity, _opener(spec, temperature))
    if run_dir is None:
        return
    paths = sorted((run_dir / CHECKPOINTS_DIR).glob(CHECKPOINT_GLOB))
    if not paths:
        raise CheckpointError(f"{run_dir / CHECKPOINTS_DIR} holds no checkpoint. Train for longer.")
    for path in paths:
        for finishes in (False, True) if finish_mates else (False,):
            player = checkpoint_player(path, temperature=temperature, finish_mates=finishes)
            yield _network(player, run_dir)


def ratings_table(content: dict[str, Any]) -> Table:
    """The Elo table of a book's content, for people."""
    table = Table(title="Elo, 95% intervals")
    table.add_column("player", overflow="fold")
    for column in ("Elo", "from", "to", "games"):
        table.add_column(column, justify="right")
    for rating in content["ratings"]:
        elo, low, high = (
            "-" if value is None else f"{value:+.0f}"
            for value in (rating["elo"], rating["low"], rating["high"])
        )
        table.add_row(rating["name"], elo, low, high, str(rating["games"]))
    return table


def pairs_table(content: dict[str, Any]) -> Table:
    """Matches that the ratings explain least, for people."""
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
        table.add_row(pair["player"], pair["opponent"], measured, f"{pair['predicted']:.1%}{mark}")
    return table


def _play(a: Entrant, b: Entrant, settings: MatchSettings) -> LadderMatch:
    """A match with a seed of its own."""
    key = [zlib.crc32(entrant.name.encode()) for entrant in (a, b)]
    sequence = np.random.SeedSequence(settings.seed, spawn_key=tuple(key))
    settings = replace(settings, seed=int(sequence.generate_state(1)[0]))
    with ExitStack() as stack:
        players = (stack.enter_context(a.open()), stack.enter_context(b.open()))
        started = time.perf_counter()
        games = list(play_match(players, settings))
        score = match_score(games, wall_time_s=time.perf_counter() - started)
    reasons = dict(sorted(Counter(str(game.reason) for game in games).items()))
    return LadderMatch(a.name, b.name, score, reasons)


def _network(player: Player, run_dir: Path | None) -> Entrant:
    """A network stays loaded; it has nothing to close."""
    path = Path(str(player.identity["checkpoint"]))
    home = path.parent.parent if path.parent.name == CHECKPOINTS_DIR else path.parent
    version = player.identity["weights_version"]
    name = f"v{version}{FINISHING_SUFFIX if player.name.endswith(FINISHING_SUFFIX) else ''}"
    if run_dir is None or home.resolve() != run_dir.resolve():
        name = f"{home.name}/{name}"
    identity = {"weights_digest": player.identity["weights_digest"]}
    return Entrant(name, identity, lambda: player)


def _opener(spec: str, temperature: float) -> Callable[[], Player]:
    return lambda: open_player(spec, temperature=temperature)
