"""Sweeps by Ray Tune: `python run.py tune`. Each trial is a whole training run.

    command        the `tune` command: a sweep from its file to its results, or its resume
    sweep_file     the YAML file; space: its search space; trial_metrics: the metrics it can name
    sweep          searcher, scheduler and trials as Ray Tune runs them
    trial          one trial: its resources, its start, its training run
    reporter       reports of a trial to Tune; callback: lines on the console about all trials
    results        table, `results.json`, `best.yaml`

`trainable` is for a `ray.tune.Tuner` in your own program; `storage` here is a directory that all
nodes share:

    from ray import tune
    from keisei_ray.config.resolver import resolve_config
    from keisei_ray.tune import trainable

    config = resolve_config("configs/debug.yaml", {}, ["run.total_timesteps=512"], {})
    tuner = tune.Tuner(
        trainable(config, metric="entropy"),
        param_space={"learner.learning_rate": tune.loguniform(1e-4, 5e-3)},
        tune_config=tune.TuneConfig(metric="entropy", mode="max", num_samples=2),
        run_config=tune.RunConfig(storage_path=storage),
    )
    best = tuner.fit().get_best_result()

Ray Tune is an extra: importing this package without it is a `ConfigError`.
"""

from typing import TYPE_CHECKING, Any

from keisei_ray.errors import ConfigError, installing

if TYPE_CHECKING:
    from keisei_ray.tune.trial import trainable

__all__ = ["trainable"]

try:
    import ray.tune  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"sweeps need Ray Tune, which is not installed whole. Install it by {installing('tune')}."
    ) from error


def __getattr__(name: str) -> Any:
    """Imports `trainable`, and with it the trainer, when it is first used."""
    if name == "trainable":
        from keisei_ray.tune.trial import trainable

        return trainable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
