"""Results of a sweep: a table, `results.json`, and the best configuration as YAML.

A trial's score is the last value of the metric that it reported, not the best one: the best of
several noisy matches is mostly luck.
"""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from keisei_ray.config.schema import Config
from keisei_ray.errors import KeiseiError, RunDirError
from keisei_ray.evaluation.summary import plain
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import BEST_CONFIG_FILE, LOG_FILE, SWEEP_RESULTS_FILE
from keisei_ray.tune.callback import end_state, failure_cause, value_text
from keisei_ray.tune.space import dotted_settings, trial_config
from keisei_ray.tune.sweep_file import TRIAL_DEFAULTS, Sweep
from keisei_ray.tune.trial_metrics import TIME


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial, finished or not."""

    trial: str
    """Id of the trial, and name of its run directory."""
    state: str
    """End of the trial: done, stopped (by the scheduler), failed or unfinished."""
    score: float | None
    """Last value of the metric; None where the trial has reported none."""
    timestep: int | None
    """Timestep of the weights that have this score."""
    settings: dict[str, Any]
    """Settings that were chosen, by dotted names; with PBT those at the end of the trial."""
    failures: int
    """Number of times that the trial was tried again."""
    cause: str | None
    """Cause of a failure; else None."""


def results_of(
    sweep: Sweep, trials: Sequence[Any], unfinished: Collection[str]
) -> list[TrialResult]:
    """Returns the results of Tune's trials, best first, those without a score last.

    Args:
        sweep: the sweep, which names the metric.
        trials: Tune's trial objects.
        unfinished: ids of the trials that had not ended when the sweep was asked to stop.
    """
    metric = sweep.file.metric
    results = [_result(t, metric.name, t.trial_id in unfinished) for t in trials]
    sign = -1.0 if metric.mode == "max" else 1.0

    def order(result: TrialResult) -> float:
        return math.inf if result.score is None else sign * result.score

    return sorted(results, key=order)


def _result(trial: Any, metric: str, is_unfinished: bool) -> TrialResult:
    value, timestep = (trial.last_result.get(name) for name in (metric, TIME))
    has_score = value is not None and math.isfinite(value)
    state = "unfinished" if is_unfinished else end_state(trial)
    return TrialResult(
        trial=trial.trial_id,
        state=state,
        score=float(value) if has_score else None,
        timestep=int(timestep) if timestep is not None else None,
        settings=dict(trial.config),
        failures=trial.num_failures,
        cause=failure_cause(trial) if state == "failed" else None,
    )


def as_json(sweep: Sweep, results: Sequence[TrialResult]) -> dict[str, object]:
    """Returns the content of `results.json`."""
    return {
        "metric": sweep.file.metric.name,
        "mode": sweep.file.metric.mode,
        "trials": [asdict(result) for result in results],
    }


def save(sweep: Sweep, sweep_dir: Path, results: Sequence[TrialResult]) -> None:
    """Writes `results.json` and, if any trial has a score, `best.yaml`.

    Raises:
        RunDirError: a file cannot be written.
    """
    files = {SWEEP_RESULTS_FILE: json.dumps(as_json(sweep, results), indent=2) + "\n"}
    if results and results[0].score is not None:
        best = results[0]
        config = trial_config(dotted_settings(sweep.base), best.settings)
        title = (
            f"# Best of {len(results)} trials of {sweep.source}: {best.trial}, "
            f"{sweep.file.metric.name} = {best.score:.6g} at timestep {best.timestep}.\n"
            f"# The length of the trials, run.total_timesteps = {config.run.total_timesteps}, is "
            "left out, and so are\n# the defaults of trials that play no matches: a run with this "
            "file has the defaults of a run.\n"
        )
        files[BEST_CONFIG_FILE] = title + config_yaml(config, left_out=of_trials(config))
    for name, text in files.items():
        try:
            write_atomically(sweep_dir / name, text.encode())
        except OSError as error:
            raise RunDirError(
                f"{sweep_dir / name} cannot be written: {error.strerror or error}."
            ) from error


def of_trials(config: Config) -> set[str]:
    """Returns the dotted names of settings that a trial has because it is one."""
    given = {"run.total_timesteps"}
    if config.evaluation.interval_timesteps is None:
        given |= set(TRIAL_DEFAULTS)
    return given


def config_yaml(config: Config, left_out: Collection[str] = ()) -> str:
    """Returns a configuration as YAML for `--config`.

    Values are written as JSON, which is valid YAML and cannot be misread.

    Args:
        config: all settings.
        left_out: dotted names of those that are not written.
    """
    lines = []
    for section, keys in config.model_dump(mode="json").items():
        lines.append(f"{section}:")
        lines += [
            f"  {key}: {json.dumps(value)}"
            for key, value in keys.items()
            if f"{section}.{key}" not in left_out
        ]
    return "\n".join(lines) + "\n"


def show(sweep: Sweep, results: Sequence[TrialResult], console: Console) -> None:
    """Prints the table of results, best first."""
    metric = sweep.file.metric
    title = f"score: {metric.name}, {metric.mode}"
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    keys = list(sweep.file.space)
    short = [key.partition(".")[2] for key in keys]
    names = short if len(set(short)) == len(short) else keys
    for name in ("trial", "score", TIME, "state", *names):
        is_text = name in ("trial", "state")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for result in results:
        table.add_row(
            plain(result.trial),
            "-" if result.score is None else f"{result.score:.4g}",
            "-" if result.timestep is None else f"{result.timestep:,}",
            result.state,
            *(plain(value_text(result.settings.get(key, "-"))) for key in keys),
        )
    console.print(table)


def check_any_score(sweep: Sweep, results: Sequence[TrialResult], sweep_dir: Path) -> None:
    """Checks that a sweep has a result.

    Raises:
        KeiseiError: no trial has reported the metric.
    """
    if any(result.score is not None for result in results):
        return
    causes = [result.cause for result in results if result.cause]
    because = f" The first failure: {causes[0]}" if causes else ""
    raise KeiseiError(
        f"none of {len(results)} trials has reported {sweep.file.metric.name}.{because} "
        f"See {LOG_FILE} in the directories under {sweep_dir}."
    )
