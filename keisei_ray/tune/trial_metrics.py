"""Which metrics a trial reports, and whether it will report the one to be optimised.

The names are those of `tracking.scalars`, those of metrics.jsonl without their group.
"""

import difflib
from dataclasses import fields

from keisei_ray.config.player_spec import SNAPSHOTS
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.metrics import METRICS
from keisei_ray.tracking.scalars import EARLIER

TIME = "timestep"
"""The report's time, for schedulers: that of the weights that the metric is of."""
ENDED = "ended"
"""In the last report of a trial that came to its end."""
BOUNDS = ("", "_low", "_high")
RANDOM = "random"
"""Elo is over this player."""


def metric_names(config: Config) -> list[str]:
    """Every name that a run with this configuration reports a number under."""
    names = [metric.name for metric in METRICS if metric.type != "str" and metric.name != TIME]
    counted = (f.name for f in fields(Diagnostics) if f.name not in (TIME, "update"))
    names += [f"diagnostics/{name}" for name in counted]
    if _is_measured(config):
        names += _match_names(config)
    return names


def check_objective(name: str, config: Config, source: str) -> None:
    """Refuses a metric that a run with this configuration never reports.

    Raises:
        ConfigError: says which setting is missing, or the nearest name that there is.
    """
    if name in metric_names(config):
        return
    evaluation = config.evaluation
    is_match = name.split("/")[0] in ("evaluation", "elo")
    if is_match and not _is_measured(config):
        raise ConfigError(
            f"{source}: metric.name = {name!r}, but no trial is ever measured: "
            f"evaluation.interval_timesteps = {_shown(evaluation.interval_timesteps)} of "
            f"run.total_timesteps = {config.run.total_timesteps}. Set a smaller interval in "
            "`settings`."
        )
    if name.startswith("evaluation/finishing/") and not evaluation.finishing:
        raise ConfigError(
            f"{source}: metric.name = {name!r}, but evaluation.finishing = false: no such match is "
            "played. Set it to true, or use evaluation/bare/..."
        )
    near = difflib.get_close_matches(name, metric_names(config), 1, 0.0)[0]
    played = f" Opponents are {', '.join(evaluation.opponents)}." if is_match else ""
    raise ConfigError(
        f"{source}: metric.name = {name!r} is not reported by a trial.{played} "
        f"Did you mean {near!r}?"
    )


def _is_measured(config: Config) -> bool:
    interval = config.evaluation.interval_timesteps
    return interval is not None and interval <= config.run.total_timesteps


def _match_names(config: Config) -> list[str]:
    kinds = ("bare", "finishing") if config.evaluation.finishing else ("bare",)
    opponents = [EARLIER if o == SNAPSHOTS else o for o in config.evaluation.opponents]
    matches = [f"evaluation/{kind}/{who}" for kind in kinds for who in opponents]
    if RANDOM in opponents:
        matches += [f"elo/{kind}" for kind in kinds]
    return [f"{name}{bound}" for name in matches for bound in BOUNDS]


def _shown(interval: int | None) -> str:
    return "null" if interval is None else str(interval)
