"""What happened and how strong the player is, in sentences and a few figures.

For somebody who was not there: no metric names, no abbreviations.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from keisei_ray.report import words
from keisei_ray.report.run_files import Evaluation, Rating, Run
from keisei_ray.tracking.terminal.text import one_line

MAX_OPPONENTS: Final = 3
"""Opponents that the headline names."""

State = Literal["done", "interrupted", "failed", "not ended", "not started"]


@dataclass(frozen=True)
class Fact:
    """One figure of the page's head."""

    name: str
    text: str
    note: str = ""


def state(run: Run) -> State:
    """How the newest session of the run ended, if it did.

    A run that goes on and one that was killed look the same from its files: "not ended".
    """
    for event in reversed(run.events):
        if event["kind"] == "run_ended":
            reason = event.get("reason")
            return reason if reason in ("done", "interrupted") else "failed"
        if event["kind"] == "run_started":
            return "not ended"
    return "not ended" if run.timesteps else "not started"


def headline(run: Run) -> list[str]:
    """Sentences: what was trained and for how long, how that ended, how strong it is."""
    return [_trained(run), _ended(run), *_strength(run)]


def facts(run: Run) -> list[Fact]:
    """The figures of the page's head."""
    planned = run.setting("run", "total_timesteps")
    of_planned = ""
    if isinstance(planned, int) and planned > 0:
        of_planned = f"{run.timesteps / planned:.1%} of {planned:,} planned"
    results = [_latest(run, name) for name in ("black_wins", "white_wins", "draws", "truncated")]
    by_result = "black {}, white {}, drawn {}, cut {}".format(*map(words.count, results))
    ratings = newest_ratings(run)
    return [
        Fact("Timesteps (plies)", words.count(run.timesteps), of_planned),
        Fact("Time", words.duration(_latest(run, "wall_time_s"))),
        Fact("Games finished", words.count(_latest(run, "games_total")), by_result),
        Fact("Updates", words.count(_latest(run, "update"))),
        Fact("Speed", words.figure(_latest(run, "sps_total")), "plies a second, whole run"),
        *(
            Fact("Elo", words.elo(rating.elo), f"{rating.name}, {_interval(rating)}")
            for rating in ratings
        ),
    ]


def newest_matches(run: Run) -> list[Evaluation]:
    """The newest match against every opponent, of the bare policy and of the helped player.

    The best known opponents first, then those met last.
    """
    newest: dict[tuple[str, bool], Evaluation] = {}
    for match in run.evaluations:
        newest[match.kind, match.finishing] = match
    first = {"random": 0, "greedy": 1}
    return sorted(
        newest.values(),
        key=lambda match: (
            first.get(match.kind, 2), -match.timestep, match.kind, match.finishing
        ),
    )  # fmt: skip


def newest_ratings(run: Run) -> list[Rating]:
    """The rating of the newest weights that have one: the bare policy's, then the helped one's."""
    newest: dict[bool, Rating] = {}
    for rating in run.ratings:
        if math.isnan(rating.elo) or math.isnan(rating.timestep):
            continue
        best = newest.get(rating.finishing)
        if best is None or rating.timestep > best.timestep:
            newest[rating.finishing] = rating
    return [newest[key] for key in sorted(newest)]


def _trained(run: Run) -> str:
    depth, width = run.setting("model", "depth"), run.setting("model", "width")
    network = (
        f"A network of {words.plural(depth, 'block')}, {width} channels wide,"
        if isinstance(depth, int) and width
        else "A network"
    )
    if not run.timesteps:
        return f"{network} was to learn Shogi by playing against itself. Nothing is learnt yet."
    cluster = next((e.get("cluster") for e in run.events_of("run_started")), None)
    where = ""
    if isinstance(cluster, dict) and "num_cpus" in cluster:
        cpus, gpus = cluster["num_cpus"], cluster.get("num_gpus", 0)
        where = f" on {words.plural(int(cpus), 'CPU')}" + (
            f" and {words.plural(int(gpus), 'GPU')}" if gpus else ", without a GPU"
        )
    games = int(_latest(run, "games_total"))
    return (
        f"{network} taught itself Shogi by self-play: "
        f"{words.count(run.timesteps)} plies in {words.duration(_latest(run, 'wall_time_s'))}"
        f"{where}, {words.plural(games, 'game')} finished, "
        f"{words.plural(int(_latest(run, 'update')), 'update')} of the network."
    )


def _ended(run: Run) -> str:
    how = state(run)
    resumes = sum(bool(event.get("resumed_from")) for event in run.events_of("run_started"))
    again = f" It was resumed {'once' if resumes == 1 else f'{resumes} times'}." if resumes else ""
    if how == "done":
        return f"The run reached its planned end.{again}"
    if how == "interrupted":
        return f"Somebody stopped it before its planned end.{again}"
    if how == "failed":
        cause = one_line(str(run.events_of("run_ended")[-1].get("cause") or "unknown"))
        return f"It ended with a failure: {cause}.{again}"
    if how == "not started":
        return "The run has not begun."
    return f"No end is on record: it goes on, or it was killed.{again}"


def _strength(run: Run) -> list[str]:
    matches = newest_matches(run)
    if not matches:
        return ["How strong it is is not known: no match against an opponent is on record."]
    sentences = []
    for kind in list(dict.fromkeys(match.kind for match in matches))[:MAX_OPPONENTS]:
        results = [_result(match) for match in matches if match.kind == kind]
        sentences.append(f"Against {kind} it scored {'; '.join(results)}.")
    for rating in newest_ratings(run)[:1]:
        sentences.append(
            f"On the rating scale on which a player of random moves stands at 0, {rating.name} "
            f"stands at {words.elo(rating.elo)} ({_interval(rating)})."
        )
    return sentences


def _result(match: Evaluation) -> str:
    help_given = " when helped to play mate in one" if match.finishing else ""
    return (
        f"{words.percent(match.score)} of the points{help_given} (95% interval "
        f"{words.percent(match.score_low)} to {words.percent(match.score_high)}, "
        f"{words.plural(match.games, 'game')} after {words.count(match.timestep)} plies)"
    )


def _interval(rating: Rating) -> str:
    low, high = words.elo(rating.low), words.elo(rating.high)
    if math.isnan(rating.low):
        low = "no lower bound"
    if math.isnan(rating.high):
        high = "no upper bound"
    return f"95% interval {low} to {high}"


def _latest(run: Run, metric: str) -> float:
    """The newest value of a metric; NaN where there is none."""
    values = run.metrics[metric]
    return float(values[-1]) if len(values) else math.nan
