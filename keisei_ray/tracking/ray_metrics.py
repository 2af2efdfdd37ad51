"""Exports the run's metrics on Ray's Prometheus port, beside Ray's own metrics.

The metrics agent of each Ray node serves what the processes of that node record. Recording is a
call into a registry of this process (0.2 ms for all gauges on a 2-core machine): it waits for no
network. The run is the same whether the port is scraped or not.
"""

import threading
from typing import Final
from urllib.parse import quote

from ray.util.metrics import Counter, Gauge, Histogram

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRICS, UpdateMetrics
from keisei_ray.tracking import prometheus as names
from keisei_ray.tracking.curves import network_kind, newest_ratings, opponent_name

REFRESH_S: Final = 1.0
"""Period after which all gauges are set again. Ray reports a gauge once for each time it is set,
and its agent drops it two reports later (20 s by default), perhaps before the next update."""

_MEANINGS: Final = {metric.name: metric.meaning for metric in METRICS} | {
    "batch_timesteps": "Plies that this process has trained on.",
    "amp_skipped": "Optimizer steps that the loss scaler skipped.",
}


def _ascii(text: str) -> str:
    """Returns a label as Ray takes it: other characters than ASCII as `%XX`, as in a URL."""
    return text if text.isascii() else quote(text, safe=" /:+?=&")


Labels = tuple[tuple[str, str], ...]


class RayMetrics:
    """Subscriber that exports all names of `prometheus.py`. Ray must be up until it is closed."""

    def __init__(self, run: str) -> None:
        """Creates the metrics and starts the thread that sets the gauges again.

        Args:
            run: name of the run, a label of every series.
        """
        self._run = {names.RUN_LABEL: _ascii(run)}
        self._gauges = {m: self._gauge(name, _MEANINGS[m]) for m, name in names.GAUGES.items()}
        self._counters = {
            m: self._counter(name, _MEANINGS[m]) for m, name in names.COUNTERS.items()
        }
        self._histograms = {
            m: Histogram(
                name, _MEANINGS[m], boundaries=names.BUCKETS_S, tag_keys=(names.RUN_LABEL,)
            ).set_default_tags(self._run)
            for m, name in names.HISTOGRAMS.items()
        }
        self._games = self._counter(names.GAMES, "Finished games.", names.RESULT_LABEL)
        self._restarts = self._counter(names.RESTARTS, "Actors replaced.", names.ROLE_LABEL)
        self._rejected = self._counter(names.REJECTED_ROLLOUTS, "Rollouts that were refused.")
        self._score = self._gauge(
            names.SCORE, "Points in the newest match.", names.OPPONENT_LABEL, names.KIND_LABEL
        )
        self._elo = {
            field: self._gauge(name, "Of the newest weights, random at 0.", names.KIND_LABEL)
            for field, name in names.ELO.items()
        }
        self._shown: dict[tuple[Gauge, Labels], float] = {}
        self._lock = threading.Lock()
        """Held while `_shown` is read or changed."""
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="ray-metrics", daemon=True)
        self._thread.start()

    def handle(self, event: ev.Event) -> None:
        """Records the numbers of an event. Gauges follow within REFRESH_S."""
        match event:
            case ev.UpdateFinished(metrics=metrics):
                self._record(metrics)
            case ev.GameFinished(game=game):
                self._games.inc(1, {names.RESULT_LABEL: game.result})
            case ev.ActorLost(actor_id=actor_id):
                role = "learner" if actor_id is None else "self_play"
                self._restarts.inc(1, {names.ROLE_LABEL: role})
            case ev.RolloutRejected():
                self._rejected.inc(1)
            case ev.EvaluationFinished(result=result):
                opponent = (names.OPPONENT_LABEL, opponent_name(result))
                kind = (names.KIND_LABEL, network_kind(result))
                self._show(self._score, result.match.score, opponent, kind)
            case ev.RatingsFitted():
                for player, rating in newest_ratings(event).items():
                    elo = {"elo": rating.elo, "low": rating.low, "high": rating.high}
                    for field, gauge in self._elo.items():
                        self._show(gauge, elo[field], (names.KIND_LABEL, player))

    def close(self) -> None:
        """Ends the thread. Gauges disappear; counters stay until the process ends."""
        self._is_closed.set()
        self._thread.join()

    def _record(self, metrics: UpdateMetrics) -> None:
        for name, gauge in self._gauges.items():
            self._show(gauge, metrics[name])
        for name, counter in self._counters.items():
            added = metrics[name]
            if isinstance(added, int | float) and added > 0:  # Ray refuses to add nothing.
                counter.inc(added)
        for name, histogram in self._histograms.items():
            value = metrics[name]
            if isinstance(value, int | float):
                histogram.observe(value)

    def _show(self, gauge: Gauge, value: object, *labels: tuple[str, str]) -> None:
        """Sets a gauge from now on, or no longer if it has become undefined: it then disappears."""
        with self._lock:
            if isinstance(value, int | float):
                self._shown[gauge, labels] = value
            else:
                self._shown.pop((gauge, labels), None)

    def _refresh(self) -> None:
        """Sets all gauges every REFRESH_S until `close`. The body of the thread."""
        while not self._is_closed.wait(REFRESH_S):
            with self._lock:
                for (gauge, labels), value in self._shown.items():
                    gauge.set(value, {name: _ascii(text) for name, text in labels})

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        gauge = Gauge(name, meaning, tag_keys=(names.RUN_LABEL, *labels))
        gauge.set_default_tags(self._run)
        return gauge

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        counter = Counter(name, meaning, tag_keys=(names.RUN_LABEL, *labels))
        counter.set_default_tags(self._run)
        return counter
