"""Summary of a run in sentences and a few figures, for a reader who knows nothing of the run.

It uses no metric names and no abbreviations.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from keisei_ray.evaluation.elo_table import players_beside
from keisei_ray.report import formatting
from keisei_ray.report.columns import finite_or_nan
from keisei_ray.report.run_files import Run, is_finishing, opponent_label
from keisei_ray.telemetry.reports import EvaluationResult, Rating
from keisei_ray.tracking.terminal.text import one_line

MAX_OPPONENTS: Final = 3
"""Maximum number of opponents that the headline names."""

EndState = Literal["done", "interrupted", "failed", "not ended", "not started"]


@dataclass(frozen=True)
class Fact:
    """One figure in the page's header."""

    name: str
    text: str
    note: str = ""


def end_state(run: Run) -> EndState:
    """Returns how the newest session of the run ended, if it did.

    A run that is still going and one that was killed look the same in the files: "not ended".
    """
    for event in reversed(run.events):
        if event["kind"] == "run_ended":
            reason = event.get("reason")
            return reason if reason in ("done", "interrupted") else "failed"
        if event["kind"] == "run_started":
            return "not ended"
    return "not ended" if run.timesteps else "not started"


def headline(run: Run) -> list[str]:
    """Returns sentences: what was trained and for how long, how that ended, how strong it is."""
    return [_trained(run), _ended(run), *_strength(run)]


def facts(run: Run) -> list[Fact]:
    """Returns the figures of the page's header."""
    planned = run.setting("run", "total_timesteps")
    of_planned = ""
    if isinstance(planned, int) and planned > 0:
        of_planned = f"{run.timesteps / planned:.1%} of {planned:,} planned"
    results = [_latest(run, name) for name in ("black_wins", "white_wins", "draws", "truncated")]
    by_result = "black {}, white {}, drawn {}, cut {}".format(*map(formatting.count, results))
    plies_per_s = _latest(run, "sps_total")
    return [
        Fact("Timesteps (plies)", formatting.count(run.timesteps), of_planned),
        Fact("Time", formatting.duration(_latest(run, "wall_time_s"))),
        Fact("Games finished", formatting.count(_latest(run, "games_total")), by_result),
        Fact("Updates", formatting.count(_latest(run, "update"))),
        Fact("Speed", formatting.significant(plies_per_s), "plies a second, whole run"),
        *(
            Fact("Elo", formatting.elo(rating.elo), f"{rating.name}, {_interval(rating)}")
            for rating in newest_ratings(run)
        ),
    ]


def newest_matches(run: Run) -> list[EvaluationResult]:
    """Returns the newest match against every opponent, of the bare and of the finishing player.

    The matches against random and greedy come first, then the newest ones.
    """
    newest: dict[tuple[str, bool], EvaluationResult] = {}
    for match in run.evaluations:
        newest[opponent_label(match), match.finishing] = match
    first = {"random": 0, "greedy": 1}

    def order(match: EvaluationResult) -> tuple[int, int, str, bool]:
        label = opponent_label(match)
        return first.get(label, 2), -match.timestep, label, match.finishing

    return sorted(newest.values(), key=order)


def newest_ratings(run: Run) -> list[Rating]:
    """Returns the newest weights' rating: the bare player's, then the finishing one's, if any."""
    newest: dict[bool, tuple[int, Rating]] = {}
    for player in run.ratings:
        if player.rating.elo is None or player.timestep is None:
            continue
        timestep, _ = newest.get(is_finishing(player), (-1, None))
        if player.timestep > timestep:
            newest[is_finishing(player)] = player.timestep, player.rating
    return [newest[key][1] for key in sorted(newest)]


def _trained(run: Run) -> str:
    depth, width = run.setting("model", "depth"), run.setting("model", "width")
    network = (
        f"A network of {formatting.plural(depth, 'block')}, {width} channels wide,"
        if isinstance(depth, int) and width
        else "A network"
    )
    if not run.timesteps:
        return f"{network} was to learn Shogi by playing against itself. Nothing is learnt yet."
    cluster = next((e.get("cluster") for e in run.events_of("run_started")), None)
    where = ""
    if isinstance(cluster, dict) and (cpus := _whole(cluster.get("num_cpus"))):
        gpus = _whole(cluster.get("num_gpus"))
        where = f" on {formatting.plural(cpus, 'CPU')}" + (
            f" and {formatting.plural(gpus, 'GPU')}" if gpus else ", without a GPU"
        )
    games, wall_time_s = _whole(_latest(run, "games_total")), _latest(run, "wall_time_s")
    return (
        f"{network} taught itself Shogi by self-play: "
        f"{formatting.count(run.timesteps)} plies in {formatting.duration(wall_time_s)}"
        f"{where}, {formatting.plural(games, 'game')} finished, "
        f"{formatting.plural(_whole(_latest(run, 'update')), 'update')} of the network."
    )


def _ended(run: Run) -> str:
    how = end_state(run)
    resumes = sum(bool(event.get("resumed_from")) for event in run.events_of("run_started"))
    again = f" It was resumed {'once' if resumes == 1 else f'{resumes} times'}." if resumes else ""
    if how == "done":
        return f"The run reached its planned end.{again}"
    if how == "interrupted":
        return f"The run was stopped by hand before its planned end.{again}"
    if how == "failed":
        cause = one_line(str(run.events_of("run_ended")[-1].get("cause") or "unknown"))
        return f"It ended with a failure: {cause}.{again}"
    if how == "not started":
        return "The run has not begun."
    return f"No end is on record: the run is still going, or it was killed.{again}"


def _strength(run: Run) -> list[str]:
    matches = newest_matches(run)
    if not matches:
        return ["How strong the player is is not known: no match against an opponent is on record."]
    sentences = []
    for opponent in list(dict.fromkeys(map(opponent_label, matches)))[:MAX_OPPONENTS]:
        results = [_result(match) for match in matches if opponent_label(match) == opponent]
        sentences.append(f"Against {opponent} it scored {'; '.join(results)}.")
    for rating in newest_ratings(run)[:1]:
        sentences.append(
            f"On a rating scale on which a player of random moves stands at 0, {rating.name} "
            f"stands at {formatting.elo(rating.elo)} ({_interval(rating)}). To compare: "
            f"{_beside(run, rating)}."
        )
    return sentences


def _result(match: EvaluationResult) -> str:
    score = match.match
    with_help = " when helped to play mate in one" if match.finishing else ""
    return (
        f"{formatting.percent(score.score)} of the points{with_help} (95% interval "
        f"{formatting.percent(score.score_low)} to {formatting.percent(score.score_high)}, "
        f"{formatting.plural(score.games, 'game')} after {formatting.count(match.timestep)} plies)"
    )


def _beside(run: Run, rating: Rating) -> str:
    """Returns greedy and the known player nearest to a rating, with their Elos."""
    table = [player.rating for player in run.ratings]
    known = players_beside(rating.elo or 0.0, table)
    return ", ".join(f"{name} at {formatting.elo(elo)}" for name, elo in known)


def _interval(rating: Rating) -> str:
    low = "no lower bound" if rating.low is None else formatting.elo(rating.low)
    high = "no upper bound" if rating.high is None else formatting.elo(rating.high)
    return f"95% interval {low} to {high}"


def _whole(value: object) -> int:
    """Returns a finite number as a whole one; 0 for anything else that a record may hold."""
    number = finite_or_nan(value)
    return 0 if math.isnan(number) else int(number)


def _latest(run: Run, metric: str) -> float:
    """Returns the newest value of a metric; NaN where there is none."""
    values = run.metrics[metric]
    return float(values[-1]) if len(values) else math.nan
