"""Charts of the page: which metrics each shows, and how to read it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from keisei_ray.report.chart_data import Chart, Frame, Line, ShareChart
from keisei_ray.report.curves import Floats, shares, sparse, thin_out, with_intervals
from keisei_ray.report.games import REASONS
from keisei_ray.report.run_files import Run, is_finishing, opponent_label
from keisei_ray.telemetry.reports import EvaluationResult
from keisei_ray.tracking.evaluation_records import RatedPlayer

MAX_COLUMNS: Final = 48
"""Maximum number of columns in a chart of shares; never more than there are updates."""
MAX_MEASURED: Final = 60
"""Maximum number of points with intervals in a curve."""
MAX_OPPONENTS: Final = 8
"""Maximum number of opponents that get a chart of their own."""
BARE, FINISHING = "bare policy", "with mate-in-one finishing"
MeasuredPoint: TypeAlias = tuple[float, float, float, float]
"""Timestep, value, and the ends of its 95% interval, NaN where open."""


MAX_BEGIN: Final = 10**12
"""Largest timestep at which an axis begins: beyond it, ticks one timestep apart would be equal."""


def frame(run: Run) -> Frame:
    """Returns the timesteps that all charts of a run cover, and where it was resumed."""
    starts = run.events_of("run_started")
    marks = [e.get("timestep") for e in starts if e.get("resumed_from")]
    first = starts[0].get("timestep") if starts else 0
    begin = first if isinstance(first, int) and 0 <= first <= MAX_BEGIN else 0
    end = max([run.timesteps, *(match.timestep for match in run.evaluations)])
    return Frame(
        (begin, end if end > begin else begin + 1),
        tuple(sorted({mark for mark in marks if isinstance(mark, int) and begin <= mark <= end})),
    )


def strength_charts(run: Run) -> list[Chart]:
    """Returns Elo, then the score against each opponent, then against the pool."""
    charts = []
    rated = [
        (is_finishing(player), point)
        for player in run.ratings
        if (point := _elo_point(player)) is not None
    ]
    if rated:
        charts.append(
            Chart(
                "elo",
                "Elo",
                "Strength on one scale, on which the anchor stands at 0. 100 points more mean "
                "an expected score of 64%, 400 more 91%. Bars: 95% intervals; one without a cap "
                "is open.",
                _lines_by_player(rated),
            )
        )
    for number, opponent in enumerate(_opponents(run.evaluations)):
        matches = [match for match in run.evaluations if opponent_label(match) == opponent]
        charts.append(
            Chart(
                f"score-{number}",
                f"Score against {opponent}",
                "Share of the points, draws and games cut by the ply cap counting half; 50% is "
                "even. Bars: 95% intervals.",
                _lines_by_player([(match.finishing, _score_point(match)) for match in matches]),
                is_share=True,
                floor=0.0,
                ceiling=1.0,
            )
        )
    if np.isfinite(run.diagnostics["pool_score"]).any():
        charts.append(
            Chart(
                "pool",
                "Score against the pool",
                "In the training games that were played against earlier weights and scripted "
                "players. The opponents change as the pool does.",
                _lines(run, {"pool_score": "score"}),
                is_share=True,
                floor=0.0,
                ceiling=1.0,
            )
        )
    return charts


def result_charts(run: Run) -> list[Chart | ShareChart]:
    """Returns how the games of training ended, and how long they were."""
    num_columns = min(MAX_COLUMNS, max(1, len(run.metrics["timestep"])))
    first, last = frame(run).x_range
    edges = np.linspace(float(first), float(last), num_columns + 1)
    results = ("black_wins", "white_wins", "draws", "truncated")
    totals = np.stack([np.nan_to_num(run.metrics[name]) for name in results], axis=1)
    gains = np.clip(np.diff(totals, axis=0, prepend=0.0), 0.0, None)
    by_reason = run.games.by_reason()
    kinds = np.eye(len(REASONS))[np.frombuffer(run.games.reasons, dtype=np.int8)]
    return [
        ShareChart(
            "results",
            "Results",
            "Who won the games that ended in each stretch of training. About as many black as "
            "white wins are to be expected; a large share of cut games means that few are won.",
            ("black wins", "white wins", "draws", "stopped by the ply cap"),
            totals[-1].tolist() if len(totals) else [0.0] * 4,
            shares(run.metrics["timestep"], gains, edges),
            edges,
            metrics=results,
        ),
        ShareChart(
            "reasons",
            "How games end",
            "By which rule. A player that has learnt to finish ends its games by mate; perpetual "
            "check is lost by the side that gives it.",
            tuple(REASONS.values()),
            list(by_reason.values()),
            shares(np.array(run.games.timesteps, dtype=np.float64), kinds, edges),
            edges,
        ),
        _chart(
            run,
            "length",
            "Game length",
            "Shorter games mean that mates are found sooner. Very short games that stay so, "
            "with little entropy, are a sign of one opening played over and over.",
            {"game_length_mean": "mean length"},
            unit="plies",
            floor=0.0,
        ),
    ]


def learning_charts(run: Run) -> list[Chart]:
    """Returns what the updates did to the network."""
    charts = [
        _chart(
            run, "entropy", "Entropy",
            "How undecided the player is: 0 is one move for certain, 3.4 is a choice among 30 "
            "equal moves. It should fall slowly; near 0 the player no longer explores.",
            {"entropy": "entropy"}, unit="nats", floor=0.0,
        ),
        _chart(
            run, "explained-variance", "Explained variance",
            "How well the player foresees results: 1 is perfect, 0 no better than the average, "
            "below 0 worse than that.",
            {"explained_variance": "explained variance"},
        ),
        _chart(
            run, "value-loss", "Value loss",
            "How far its forecasts are from the results.",
            {"value_loss": "value loss"}, floor=0.0,
        ),
        _chart(
            run, "policy-loss", "Policy loss",
            "The quantity that the optimizer lowers. Its level says little about strength.",
            {"policy_loss": "policy loss"},
        ),
        _chart(
            run, "kl", "Policy change (KL)",
            "How far one update moves the policy from the one that played. Steady and small is "
            "healthy; a jump means that an update went too far.",
            {"approx_kl": "approx. KL"}, unit="nats", floor=0.0,
        ),
        _chart(
            run, "clip", "Clipped share",
            "Of the positions of an update, those whose move's probability changed by more than "
            "the clip range. It rises and falls with KL.",
            {"clip_fraction": "clip fraction"}, is_share=True, floor=0.0,
        ),
        _chart(
            run, "learning-rate", "Learning rate",
            "The size of the optimizer's steps, by the schedule.",
            {"learning_rate": "learning rate"}, floor=0.0,
        ),
        _chart(
            run, "grad-norm", "Gradient norm",
            "Before clipping. Spikes point to unusual updates.",
            {"grad_norm": "gradient norm"}, floor=0.0,
        ),
        _chart(
            run, "lag", "Policy lag",
            "How many updates the weights that played were behind the learner. 0 is on policy.",
            {"policy_lag_mean": "mean", "policy_lag_max": "greatest"}, unit="updates", floor=0.0,
        ),
    ]  # fmt: skip
    return [charts[0], *_distinct_positions(run), *charts[1:]]


def _distinct_positions(run: Run) -> list[Chart]:
    """Returns the chart of distinct positions, if any were counted."""
    if not np.isfinite(run.diagnostics["distinct_positions"]).any():
        return []
    return [
        Chart(
            "distinct",
            "Distinct positions",
            "Different positions among the plies of an update, as a share of them. A fall "
            "warns of games that all follow the same moves.",
            _lines(run, {"distinct_positions": "distinct"}),
            is_share=True,
            floor=0.0,
        )
    ]


def speed_charts(run: Run) -> list[Chart]:
    """Returns how fast training was, and how its time was spent."""
    return [
        _chart(
            run, "sps", "Speed",
            "Plies that were played and learnt from in a second of wall time.",
            {"sps": "this update", "sps_total": "whole run"}, unit="plies/s", floor=0.0,
        ),
        _chart(
            run, "time", "Time of an update",
            "Update, publish and wait are the learner's, one after the other; collecting goes "
            "on meanwhile in the actors. Much waiting means too few actors.",
            {
                "collect_time_s": "collect",
                "update_time_s": "update",
                "publish_time_s": "publish",
                "wait_time_s": "wait",
            },
            unit="s", floor=0.0,
        ),
        _chart(
            run, "actors", "Self-play actors",
            "How many are up, and how many had to be replaced.",
            {"actors_alive": "alive", "actor_restarts": "restarts so far"}, floor=0.0,
        ),
    ]  # fmt: skip


def _chart(
    run: Run,
    key: str,
    title: str,
    about: str,
    series: dict[str, str],
    *,
    unit: str = "",
    is_share: bool = False,
    floor: float | None = None,
) -> Chart:
    """Returns a chart of metrics.

    Args:
        series: name of the metric -> name in the legend; the other arguments as in `Chart`.
    """
    lines = _lines(run, series)
    return Chart(key, title, about, lines, tuple(series), unit=unit, is_share=is_share, floor=floor)


def _lines(run: Run, series: dict[str, str]) -> list[Line]:
    lines = []
    for metric, name in series.items():
        table = run.metrics if metric in run.metrics else run.diagnostics
        lines.append(Line(name, thin_out(table["timestep"], table[metric])))
    return lines


def _lines_by_player(points: Sequence[tuple[bool, MeasuredPoint]]) -> list[Line]:
    """Returns a curve of the bare policy and one of the finishing player, as far as there are any.

    Args:
        points: (is it the finishing player's, point).
    """
    lines = []
    for name, finishing in ((BARE, False), (FINISHING, True)):
        rows = sorted((p for mark, p in points if mark == finishing), key=lambda p: p[0])
        if rows:
            table: Floats = np.array(rows, dtype=np.float64)
            table = table[sparse(table[:, 1], MAX_MEASURED)]
            lines.append(Line(name, with_intervals(*table.T), has_intervals=True))
    return lines


def _score_point(match: EvaluationResult) -> MeasuredPoint:
    score = match.match
    return match.timestep, score.score, score.score_low, score.score_high


def _elo_point(player: RatedPlayer) -> MeasuredPoint | None:
    """Returns a player's Elo; None without an estimate, or for a player from outside the run."""
    rating = player.rating
    if rating.elo is None or player.timestep is None:
        return None
    low = math.nan if rating.low is None else rating.low
    high = math.nan if rating.high is None else rating.high
    return player.timestep, rating.elo, low, high


def _opponents(matches: Sequence[EvaluationResult]) -> list[str]:
    """Returns the opponents that were met most often, at most MAX_OPPONENTS."""
    met = Counter(map(opponent_label, matches))
    return [name for name, _ in met.most_common(MAX_OPPONENTS)]
