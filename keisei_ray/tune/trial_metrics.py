"""Names of the metrics that a trial reports, and a check of the one to be optimized.

The names are those of `tracking.curves`.
"""

import difflib

from keisei_ray.config.player_spec import SNAPSHOTS
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.elo_table import ANCHOR
from keisei_ray.telemetry.diagnostics import DIAGNOSTICS
from keisei_ray.telemetry.metrics import METRICS
from keisei_ray.tracking.curves import EARLIER

TIME = "timestep"
"""Key of a report's time, for schedulers: the timestep of the weights that were measured."""
ENDED = "ended"
"""Key that only the last report of a trial that reached its end has."""
BOUNDS = ("", "_low", "_high")
"""Suffixes of the value and of the ends of its interval."""


def metric_names(config: Config) -> list[str]:
    """Returns the name of every number that a run with this configuration reports."""
    names = [metric.name for metric in METRICS if metric.type != "str" and metric.name != TIME]
    others = [metric.name for metric in DIAGNOSTICS if metric.name not in (TIME, "update")]
    names += [f"diagnostics/{name}" for name in others]
    if _has_matches(config):
        names += _match_names(config)
    return names


def check_metric(name: str, config: Config, source: str) -> None:
    """Checks that a run with this configuration reports a metric.

    Raises:
        ConfigError: it does not. Names the setting that is missing, or the nearest metric.
    """
    if name in metric_names(config):
        return
    evaluation = config.evaluation
    interval = evaluation.interval_timesteps
    is_match = name.split("/")[0] in ("evaluation", "elo")
    if is_match and not _has_matches(config):
        raise ConfigError(
            f"{source}: metric.name = {name!r}, but no trial plays matches: "
            f"evaluation.interval_timesteps = {'null' if interval is None else interval} of "
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


def _has_matches(config: Config) -> bool:
    interval = config.evaluation.interval_timesteps
    return interval is not None and interval <= config.run.total_timesteps


def _match_names(config: Config) -> list[str]:
    kinds = ("bare", "finishing") if config.evaluation.finishing else ("bare",)
    opponents = [EARLIER if o == SNAPSHOTS else o for o in config.evaluation.opponents]
    matches = [f"evaluation/{kind}/{who}" for kind in kinds for who in opponents]
    if ANCHOR in opponents:
        matches += [f"elo/{kind}" for kind in kinds]
    return [f"{name}{bound}" for name in matches for bound in BOUNDS]
