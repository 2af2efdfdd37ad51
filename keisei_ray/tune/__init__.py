"""Ray Tune: sweeps over any setting, each trial a whole training run with its own directory.

`trainable` is for people who write their own `ray.tune.Tuner`; `storage` here is a directory that
all nodes share:

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

from keisei_ray.errors import ConfigError

try:
    import ray.tune  # noqa: F401
except ImportError as error:
    raise ConfigError(
        "sweeps need Ray Tune, which is not installed whole: "
        f"{' '.join(str(error).split())[:200]} Install it with `pip install 'keisei-ray[tune]'`."
    ) from error

from keisei_ray.tune.trial import trainable

__all__ = ["trainable"]
