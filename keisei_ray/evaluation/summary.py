"""The result of a match: as values for a file, and as a table for the terminal."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, pair_scores
from keisei_ray.evaluation.score_intervals import CONFIDENCE, Interval, elo_interval, score_interval
from keisei_ray.players.player import Player
from keisei_ray.telemetry.visible_text import visible


def plain(text: str) -> Text:
    """Returns a text that a table shows as it is: nothing in it is markup, nothing is hidden."""
    return Text(visible(text))


def summarize(
    players: tuple[Player, Player],
    settings: MatchSettings,
    games: Sequence[PlayedGame],
    *,
    wall_time_s: float,
) -> dict[str, Any]:
    """Returns a match as JSON-serializable values, from the first player's point of view.

    Counts and the scores beside them cover all finished games. `score`, its interval and the Elo
    difference cover the pairs of which both games are finished; after a whole match these are all
    pairs. They are None if there is no such pair, and an Elo bound is None if it is infinite.

    Args:
        players: first and second player.
        settings: settings of the match.
        games: finished games, in any order.
        wall_time_s: seconds that the match took.
    """
    units = pair_scores(games)
    score = score_interval(units) if units else None
    ordered = sorted(games, key=lambda game: game.index)
    return {
        "player": {"name": players[0].name, **players[0].identity},
        "opponent": {"name": players[1].name, **players[1].identity},
        "seed": settings.seed,
        "max_plies": settings.max_plies,
        **settings.describe_openings(),
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


def result_table(*results: dict[str, Any]) -> Table:
    """Returns a table of matches against one opponent, one column per match.

    Args:
        results: results as `command.evaluate` returns them for one match.
    """
    title = f"{results[0]['player']['name']} against {results[0]['opponent']['name']}"
    table = Table(title=plain(title), show_header=len(results) > 1)
    table.add_column(style="bold", no_wrap=True)
    for result in results:
        table.add_column(plain(result["player"]["name"]))
    columns = [_rows(result) for result in results]
    for row in dict.fromkeys(key for column in columns for key in column):
        table.add_row(row, *(plain(column.get(row, "")) for column in columns))
    return table


def _rows(result: dict[str, Any]) -> dict[str, str]:
    """Returns the lines of one match by their titles."""
    rows = {}
    if result["interrupted"] or result["error"]:
        rows["interrupted"] = (
            f"{result['games_finished']} of {result['games_scheduled']} games finished, short "
            "ones first: a hint, not a measurement"
        )
    if result["score"]:
        low, center, high = (f"{100 * x:.1f}%" for x in result["score"].values())
        rows["score"] = f"{center}  ({low} to {high}, 95% interval)"
        elo_low, elo, elo_high = (_elo_text(x) for x in result["elo"].values())
        rows["Elo difference"] = f"{elo}  ({elo_low} to {elo_high})"
    if result["sprt"]:
        rows["SPRT"] = _sprt_text(result["sprt"])
    for title, key in (("all games", "total"), ("as Black", "as_black"), ("as White", "as_white")):
        rows[title] = _counts_text(result[key])
    rows["ended by"] = ", ".join(f"{name} {count}" for name, count in result["reasons"].items())
    if result["mean_plies"] is not None:
        rows["mean length"] = f"{result['mean_plies']:.1f} plies"
    rows["speed"] = f"{result['plies_per_s']:,.0f} plies/s"
    for title, who in (("weights", result["player"]), ("opponent's", result["opponent"])):
        if "weights_digest" in who:
            rows[title] = f"version {who['weights_version']}, {who['weights_digest'][:16]}"
    for who in (result["player"], result["opponent"]):
        if "engine" in who:
            rows["engine"] = who["engine"]
    rows["conditions"] = _conditions_text(result)
    return rows


def _bounds(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {
        name: value if math.isfinite(value) else None for name, value in interval._asdict().items()
    }


def _counts(games: Sequence[PlayedGame]) -> dict[str, Any]:
    """Returns score and outcomes of some games; the score is None if there are none."""
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


def _sprt_text(sprt: dict[str, Any]) -> str:
    verdict = f"accepts {sprt[sprt['accepted']]:g} Elo" if sprt["accepted"] else "undecided"
    return (
        f"{verdict}  (LLR {sprt['llr']:+.2f} of {sprt['lower']:.2f} to "
        f"{sprt['upper']:.2f} for {sprt['elo0']:g} against {sprt['elo1']:g} Elo, "
        f"{sprt['pairs']} pairs)"
    )


def _conditions_text(result: dict[str, Any]) -> str:
    openings = f"0-{result['random_opening_plies']} random opening plies"
    if "openings" in result:
        openings = f"openings of {result['openings']} ({result['openings_sha256'][:16]})"
    return (
        f"seed {result['seed']}, {openings}, cap "
        f"{result['max_plies']} plies (counts half), temperature {result['temperature']:g}"
    )
