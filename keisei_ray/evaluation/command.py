"""`evaluate` as a person calls it: a checkpoint, an opponent, a match, a table and a record."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, pair_scores, play_match
from keisei_ray.evaluation.opponents import Player, checkpoint_player, parse_opponent
from keisei_ray.evaluation.rating import CONFIDENCE, Interval, elo_interval, score_interval


def evaluate(
    *,
    checkpoint: Path,
    opponent: str,
    num_games: int,
    seed: int,
    console: Console,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """Plays a match and shows what it says of the checkpoint's strength.

    An interrupt ends the match; the games that were finished are reported. Among those short
    games are over-represented, so such a score is a hint only.

    Args:
        checkpoint: a run, its `checkpoints` or one checkpoint; of several, the newest intact.
        opponent: see `opponents.parse_opponent`.
        num_games: even, half of them with each colour.
        seed: of openings and random choices; the same seed plays the same match.
        console: where progress and result are drawn.
        temperature: see `opponents.checkpoint_player`; for both players.

    Returns:
        The result, JSON-serializable; see `summarize`.

    Raises:
        ConfigError: an odd number of games.
        CheckpointError: a checkpoint is missing, damaged, or not what it says it is.
        OpponentError: the opponent is unknown or not available.
    """
    if num_games < 2 or num_games % 2:
        raise ConfigError(
            f"--games {num_games}: expected an even number, since every opening is played from "
            f"both colours. Use {num_games + 1}."
        )
    # Games run in lockstep and nets are small: more threads wait for each other.
    torch.set_num_threads(1)
    settings = MatchSettings(num_games=num_games, seed=seed)
    player = checkpoint_player(checkpoint, temperature=temperature)
    with parse_opponent(opponent, temperature=temperature) as other:
        players = (player, other)
        started = time.perf_counter()
        games, interrupted = _play(players, settings, console)
    result = summarize(players, settings, games, wall_time_s=time.perf_counter() - started) | {
        "temperature": temperature,
        "interrupted": interrupted,
    }
    console.print(result_table(result))
    return result


def summarize(
    players: tuple[Player, Player],
    settings: MatchSettings,
    games: Sequence[PlayedGame],
    *,
    wall_time_s: float,
) -> dict[str, Any]:
    """A match as JSON-serializable values, seen by the first player.

    Scores and counts cover all finished games; `score`, its interval and the Elo difference
    cover the pairs of which both games are finished, which is all of them after a whole match.
    They are None where there is no such pair, and an Elo bound is None where it is infinite.
    """
    units = pair_scores(games)
    score = score_interval(units) if units else None
    ordered = sorted(games, key=lambda game: game.index)
    return {
        "player": {"name": players[0].name, **players[0].identity},
        "opponent": {"name": players[1].name, **players[1].identity},
        "seed": settings.seed,
        "max_plies": settings.max_plies,
        "random_opening_plies": settings.random_opening_plies,
        "games_scheduled": settings.num_games,
        "games_finished": len(games),
        "pairs_finished": len(units),
        "confidence": CONFIDENCE,
        "score": _bounds(score),
        "elo": _bounds(elo_interval(score) if score else None),
        "total": _counts(ordered),
        "as_black": _counts([game for game in ordered if game.is_black]),
        "as_white": _counts([game for game in ordered if not game.is_black]),
        "reasons": dict(sorted(Counter(game.reason for game in games).items())),
        "mean_plies": sum(game.plies for game in games) / len(games) if games else None,
        "plies_per_s": sum(game.plies - game.opening_plies for game in games) / wall_time_s,
        "wall_time_s": wall_time_s,
    }


def result_table(result: dict[str, Any]) -> Table:
    """What `summarize` returned (with `interrupted`), for people."""
    player, opponent = result["player"], result["opponent"]
    table = Table(title=f"{player['name']} against {opponent['name']}", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    if result.get("interrupted"):
        table.add_row(
            "interrupted",
            f"{result['games_finished']} of {result['games_scheduled']} games finished, short "
            "ones first: a hint, not a measurement",
        )
    if result["score"]:
        low, center, high = (f"{100 * x:.1f}%" for x in result["score"].values())
        table.add_row("score", f"{center}  ({low} to {high}, 95% interval)")
        elo_low, elo, elo_high = (_elo_text(x) for x in result["elo"].values())
        table.add_row("Elo difference", f"{elo}  ({elo_low} to {elo_high})")
    for title, key in (("all games", "total"), ("as Black", "as_black"), ("as White", "as_white")):
        table.add_row(title, _counts_text(result[key]))
    if result["mean_plies"] is not None:
        table.add_row("mean length", f"{result['mean_plies']:.1f} plies")
    table.add_row("speed", f"{result['plies_per_s']:,.0f} plies/s")
    for title, who in (("weights", player), ("opponent's", opponent)):
        if "weights_digest" in who:
            table.add_row(title, f"version {who['weights_version']}, {who['weights_digest'][:16]}")
    table.add_row("conditions", _conditions_text(result))
    return table


def _play(
    players: tuple[Player, Player], settings: MatchSettings, console: Console
) -> tuple[list[PlayedGame], bool]:
    """The finished games, and whether an interrupt cut the match short."""
    games: list[PlayedGame] = []
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    try:
        with bar:
            task = bar.add_task("games", total=settings.num_games)
            for game in play_match(players, settings):
                games.append(game)
                bar.advance(task)
    except KeyboardInterrupt:
        return games, True
    return games, False


def _bounds(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {
        name: value if math.isfinite(value) else None for name, value in interval._asdict().items()
    }


def _counts(games: Sequence[PlayedGame]) -> dict[str, Any]:
    """Score and results of some games; None where there are none."""
    outcomes = Counter(game.outcome for game in games)
    return {
        "games": len(games),
        "score": sum(game.score for game in games) / len(games) if games else None,
        "wins": outcomes["win"],
        "draws": outcomes["draw"],
        "losses": outcomes["loss"],
        "truncated": outcomes["truncated"],
    }


def _counts_text(counts: dict[str, Any]) -> str:
    score = "-" if counts["score"] is None else f"{100 * counts['score']:.1f}%"
    cut = f", {counts['truncated']} cut by the ply cap" if counts["truncated"] else ""
    return f"{score}  {counts['wins']}-{counts['draws']}-{counts['losses']} (won-drawn-lost){cut}"


def _elo_text(elo: float | None) -> str:
    return "off the scale" if elo is None else f"{elo:+.0f}"


def _conditions_text(result: dict[str, Any]) -> str:
    return (
        f"seed {result['seed']}, 0-{result['random_opening_plies']} random opening plies, cap "
        f"{result['max_plies']} plies (counts half), temperature {result['temperature']:g}"
    )
