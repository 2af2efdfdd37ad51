"""A trial: one whole training run inside its own placement group of Ray Tune.

    driver     the trial's actor, which reserves nothing
    learners   a bundle each, with its CPUs, and its part of a GPU if it has one
    actors     a bundle each
    evaluator  a bundle, if it reserves CPUs

The placement group captures child actors, so learners, actors and evaluator are started as in any
run and are placed in it. The trial's actor owns them, and they end with it.

This module also decides where a trial starts. If Tune gives it one of its own checkpoints (the
trial failed, was paused, or the sweep was resumed), it goes on from its own newest one. If Tune
gives it another trial's checkpoint (PBT), it goes on from that one: with the other trial's weights,
optimizer, progress and opponent pool, but with its own settings.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final

import ray
from ray import tune
from rich.console import Console

from keisei_ray.config.autosize import (
    actor_cpus,
    learner_cpus,
    learner_gpus,
    resolve_auto,
    run_sizes,
    self_play_gpus,
)
from keisei_ray.config.json_text import read_json
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, placement_group_cluster
from keisei_ray.distributed.cluster_fit import check_fits
from keisei_ray.errors import CheckpointError, ConfigError
from keisei_ray.network.finite_weights import check_weights
from keisei_ray.status.records import metrics_from
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.json_lines import JsonLinesReader
from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    EVALUATIONS_FILE,
    METRICS_FILE,
    ORIGIN_FILE,
    POOL_DIR,
)
from keisei_ray.storage.run_lock import RunLock, run_lock
from keisei_ray.storage.superseded import set_run_aside
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.evaluation_records import evaluation_from
from keisei_ray.training.session import train
from keisei_ray.tune.reporter import Report, TrialReporter
from keisei_ray.tune.space import dotted_settings, trial_config

END_S: Final = 60.0
"""Longest time, in seconds, that a trial waits for the end of the process that had it before."""


def trainable(
    config: Config, *, metric: str, num_cpus: float = 1.0
) -> Callable[[dict[str, Any]], None]:
    """Returns a function for `ray.tune.Tuner` that trains with the settings that Tune chooses.

    The `param_space` of the Tuner has settings by their dotted names; they override `config`. The
    function asks for the resources of a trial by itself: do not wrap it in `tune.with_resources`.
    A report is sent with each new value of `metric`. It has all names of metrics.jsonl,
    `diagnostics/...`, `evaluation/...` and `elo/...`, and `timestep` as time for schedulers; it
    carries a checkpoint, if one was saved. The run directory is the trial's directory in Tune's
    storage, which must be a file system that all nodes share.

    Args:
        config: the base configuration.
        metric: the metric that is optimized, e.g. evaluation/bare/greedy.
        num_cpus: Ray CPUs for learner, actors and evaluator together. In addition the trial gets
            `learner.num_gpus` of a GPU for each learner where its device is cuda, or auto and there
            is one, and `self_play.num_gpus` for each actor where that device is cuda.
    """
    base = dotted_settings(config)

    def keisei_trial(chosen: dict[str, Any]) -> None:
        _run(base, chosen, metric, num_cpus)

    def resources(chosen: dict[str, Any]) -> Any:
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        return placement(trial_config(base, chosen), num_cpus, has_gpu=has_gpu)

    annotated: Callable[[dict[str, Any]], None] = tune.with_resources(keisei_trial, resources)
    return annotated


def placement(config: Config, num_cpus: float, *, has_gpu: bool) -> Any:
    """Returns the placement group of a trial, as a `PlacementGroupFactory`.

    Args:
        config: the trial's configuration, before `auto` devices are resolved.
        num_cpus: CPUs of the whole trial.
        has_gpu: whether the cluster has a GPU at all.
    """
    return tune.PlacementGroupFactory([{}, *bundles(config, num_cpus, has_gpu=has_gpu)])


def bundles(config: Config, num_cpus: float, *, has_gpu: bool) -> list[dict[str, float]]:
    """Returns the resources that learners, actors and evaluator reserve; see `placement`."""
    has_gpu = has_gpu or "cuda" in (config.learner.device, config.self_play.device)
    config = resolve_auto(config, num_cpus, int(has_gpu))
    learner = {"CPU": learner_cpus(config, num_cpus), "GPU": learner_gpus(config)}
    each = actor_cpus(config, num_cpus)
    actor = {"CPU": each, "GPU": self_play_gpus(config)}
    learners = [learner] * config.learner.num_learners
    found = [*learners, *[actor] * run_sizes(config, num_cpus, each).num_actors]
    evaluation = config.evaluation
    if evaluation.interval_timesteps is not None and evaluation.num_cpus > 0:
        found.append({"CPU": evaluation.num_cpus})
    return [{what: part for what, part in bundle.items() if part > 0} for bundle in found]


def check_trial_fits(config: Config, num_cpus: float) -> None:
    """Checks that the parts of a trial fit into its placement group.

    Raises:
        ClusterError: they do not; see `check_fits`.
    """
    learner = config.learner
    num_gpus = (
        ceil(learner.num_learners * (learner.num_gpus or 1)) if learner.num_learners > 1 else 1
    )
    trial = Cluster("this sweep", 1, num_cpus, num_gpus, 0, "", is_fixed=True)
    check_fits(resolve_auto(config, num_cpus, num_gpus), trial)


def _run(base: Mapping[str, Any], chosen: Mapping[str, Any], metric: str, num_cpus: float) -> None:
    """Runs a trial. Blocks until the run has ended, or until Tune ends it.

    Tune ends a trial by raising SystemExit in `tune.report`.
    """
    run_dir = _run_dir(tune.get_context().get_storage())
    run_dir.mkdir(parents=True, exist_ok=True)
    # Tune starts a trial again only when its former actor is over, perhaps with its node.
    with run_lock(run_dir, force=True, wait_s=END_S) as lock:
        _run_in(run_dir, lock, base, chosen, metric, num_cpus)


def _run_in(
    run_dir: Path,
    lock: RunLock,
    base: Mapping[str, Any],
    chosen: Mapping[str, Any],
    metric: str,
    num_cpus: float,
) -> None:
    trial_id = tune.get_context().get_trial_id()
    config = trial_config(base, chosen)
    resume, is_own = find_start(run_dir, trial_id, tune.get_checkpoint())
    if resume is None:
        # An earlier try of the trial may have ended before it saved its first checkpoint.
        set_run_aside(run_dir)
    config = _with(
        config,
        run={"run_dir": str(run_dir), "resume": str(resume.path) if resume else None},
        tracking={"view": "none"},
    )
    reports = TrialReporter(metric, run_dir, trial_id, config.run.total_timesteps, _send)
    if resume is not None and is_own:
        for event in _reported_before(run_dir, resume.timestep):
            reports.handle_past(event)
    train(
        config,
        Console(quiet=True),
        lock=lock,
        cluster=placement_group_cluster(num_cpus),
        subscribers=(ev.Subscriber("tune", reports.handle),),
        should_stop=reports.report_due,
        waits_for_saving=True,  # A report carries the checkpoint of its own update.
    )
    reports.report_rest()


def _send(report: Report, staged: Path | None) -> None:
    tune.report(report, checkpoint=tune.Checkpoint(str(staged)) if staged else None)


def _with(config: Config, **sections: dict[str, Any]) -> Config:
    """Returns a copy with some settings changed."""
    changed = {
        name: getattr(config, name).model_copy(update=values) for name, values in sections.items()
    }
    return config.model_copy(update=changed)


def _run_dir(storage: Any) -> Path:
    """Returns the trial's directory in Tune's storage.

    Raises:
        ConfigError: the storage is not a file system.
    """
    if storage.storage_filesystem.type_name != "local":
        raise ConfigError(
            f"Tune's storage is {storage.storage_filesystem.type_name}, expected a file system "
            "that all nodes share, for the run directories. Use a path as storage_path."
        )
    return Path(storage.trial_fs_path)


def find_start(
    run_dir: Path, trial_id: str, given: tune.Checkpoint | None
) -> tuple[Checkpoint | None, bool]:
    """Returns the checkpoint that a trial goes on from, and whether it is the trial's own.

    The checkpoint is in `run_dir`. Tune's checkpoint may be older than those in the directory, or
    it may be another trial's, which is copied there.

    Args:
        run_dir: the trial's run directory.
        trial_id: the trial's id, which its own checkpoints carry.
        given: the checkpoint from which Tune restores the trial; None for a new trial.

    Raises:
        CheckpointError: the given checkpoint is damaged or was not made by a trial.
    """
    own = checkpoint.find_latest(run_dir / CHECKPOINTS_DIR, lambda *_: None, check_weights)
    if given is None:
        return own, True
    with given.as_directory() as name:
        directory = Path(name)
        origin, content = _opened(directory)
        is_own = origin == trial_id
        if is_own and own is not None and own.timestep >= content.timestep:
            return own, True
        path = checkpoint.save(
            run_dir / CHECKPOINTS_DIR, content.timestep, content.files, content.info
        )
        if (directory / POOL_DIR).is_dir():
            shutil.copytree(directory / POOL_DIR, run_dir / POOL_DIR, dirs_exist_ok=True)
    return checkpoint.load(path), is_own


def _opened(directory: Path) -> tuple[str, Checkpoint]:
    """Returns the id of the trial that made a Tune checkpoint, and its content."""
    try:
        origin = str(read_json(directory / ORIGIN_FILE)["trial"])
        [path] = (directory / CHECKPOINTS_DIR).iterdir()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{directory} is not a trial's checkpoint: {error}. Was it kept for too short a time "
            "(CheckpointConfig.num_to_keep)?"
        ) from error
    return origin, checkpoint.load(path)


def _reported_before(run_dir: Path, timestep: int) -> Iterator[ev.Event]:
    """Yields the updates and matches up to `timestep` from the files of the run directory.

    Raises:
        RunDirError: a file cannot be read.
    """
    for record in JsonLinesReader(run_dir / METRICS_FILE):
        metrics = metrics_from(record)
        if metrics is not None and metrics.timestep <= timestep:
            yield ev.UpdateFinished(metrics)
    for record in JsonLinesReader(run_dir / EVALUATIONS_FILE):
        result = evaluation_from(record)
        if result is not None and result.timestep <= timestep:
            yield ev.EvaluationFinished(result)
