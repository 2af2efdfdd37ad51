"""What a sweep came to: a table, `results.json`, and the best configuration as YAML.

A trial's score is the last value of the metric that it reported, not its best: of noisy matches
the best is mostly luck.
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
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import BEST_CONFIG_FILE, LOG_FILE, SWEEP_RESULTS_FILE
from keisei_ray.tune.callback import cause_of, shown, state_of
from keisei_ray.tune.space import settings_of, trial_config
from keisei_ray.tune.sweep_file import Sweep
from keisei_ray.tune.trial_metrics import TIME


@dataclass(frozen=True)
class TrialResult:
    """A trial, as far as it came."""

    trial: str
    """Its id, and the name of its run directory."""
    state: str
    """done, stopped (by the scheduler), failed or unfinished."""
    score: float | None
    """Last value of the metric; None: it never reported one."""
    timestep: int | None
    """Of the weights that the score is of."""
    settings: dict[str, Any]
    """What was chosen, by dotted names; of PBT the settings that it ended with."""
    failures: int
    """How often it was tried again."""
    cause: str | None
    """Of a failure."""


def results_of(
    sweep: Sweep, trials: Sequence[Any], unfinished: Collection[str]
) -> list[TrialResult]:
    """Tune's trials as results, best first, those without a score last.

    Args:
        sweep: says which metric is optimised.
        trials: Tune's.
        unfinished: ids of those that were not over when the sweep was asked to stop.
    """
    metric = sweep.file.metric
    results = [_result(t, metric.name, t.trial_id in unfinished) for t in trials]
    sign = -1.0 if metric.mode == "max" else 1.0

    def place(result: TrialResult) -> float:
        return math.inf if result.score is None else sign * result.score

    return sorted(results, key=place)


def _result(trial: Any, metric: str, is_unfinished: bool) -> TrialResult:
    value, timestep = (trial.last_result.get(name) for name in (metric, TIME))
    has_score = value is not None and math.isfinite(value)
    state = "unfinished" if is_unfinished else state_of(trial)
    return TrialResult(
        trial=trial.trial_id,
        state=state,
        score=float(value) if has_score else None,
        timestep=int(timestep) if timestep is not None else None,
        settings=dict(trial.config),
        failures=trial.num_failures,
        cause=cause_of(trial) if state == "failed" else None,
    )


def as_json(sweep: Sweep, results: Sequence[TrialResult]) -> dict[str, object]:
    """For `results.json`."""
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
        title = (
            f"# Best of {len(results)} trials of {sweep.source}: {best.trial}, "
            f"{sweep.file.metric.name} = {best.score:.6g} at timestep {best.timestep}.\n"
        )
        files[BEST_CONFIG_FILE] = title + config_yaml(
            trial_config(settings_of(sweep.base), best.settings)
        )
    for name, text in files.items():
        try:
            write_atomically(sweep_dir / name, text.encode())
        except OSError as error:
            raise RunDirError(
                f"{sweep_dir / name} cannot be written: {error.strerror or error}."
            ) from error


def config_yaml(config: Config) -> str:
    """A whole configuration as YAML for `--config`; values are written as JSON, which YAML is."""
    lines = []
    for section, keys in config.model_dump(mode="json").items():
        lines.append(f"{section}:")
        lines += [f"  {key}: {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def show(sweep: Sweep, results: Sequence[TrialResult], console: Console) -> None:
    """The table, best first."""
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
            result.trial,
            "-" if result.score is None else f"{result.score:.4g}",
            "-" if result.timestep is None else f"{result.timestep:,}",
            result.state,
            *(shown(result.settings.get(key, "-")) for key in keys),
        )
    console.print(table)


def check_any_score(sweep: Sweep, results: Sequence[TrialResult], sweep_dir: Path) -> None:
    """Refuses to call a sweep done of which nothing is known.

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
