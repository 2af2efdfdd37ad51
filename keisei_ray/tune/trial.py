"""A trial: one whole training run inside its own placement group of Ray Tune.

    driver     the trial's actor, which reserves nothing
    learner    a bundle with its CPUs, and its part of a GPU if it has one
    actors     a bundle each
    evaluator  a bundle, if it reserves CPUs

The group captures its children, so learner, actors and evaluator are the ones of any run and find
their place there. They are owned by the trial's actor and end with it.

What a trial goes on from is decided here: from its own newest checkpoint if Tune gives it one of
its own (it failed, was paused, or the sweep was resumed), from the given one if that is another
trial's (PBT). Weights, optimizer, progress and opponent pool come along; the settings are its own.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from keisei_ray.config.autosize import actor_cpus, learner_cpus, resolve_auto, sizes_for
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, check_fits, placement_group_cluster
from keisei_ray.errors import CheckpointError, ConfigError
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
from keisei_ray.storage.superseded import set_run_aside
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.evaluations_file import from_record
from keisei_ray.training.session import train
from keisei_ray.tune.reporter import Report, Reports
from keisei_ray.tune.space import settings_of, trial_config


def trainable(
    config: Config, *, metric: str, num_cpus: float = 1.0
) -> Callable[[dict[str, Any]], None]:
    """A function trainable for `ray.tune.Tuner` that trains with what Tune chose over `config`.

    Its `param_space` has settings by their dotted names. It asks for the resources of a trial by
    itself: do not wrap it in `tune.with_resources`. A report comes with each new value of `metric`
    and has all names of metrics.jsonl, `diagnostics/...`, `evaluation/...` and `elo/...`, and
    `timestep` as time for schedulers; it carries the checkpoint, if one was saved. The run
    directory is the trial's directory in Tune's storage, which must be a file system that all
    nodes share.

    Args:
        config: the base.
        metric: what is optimised, e.g. evaluation/bare/greedy.
        num_cpus: CPUs of Ray for learner, actors and evaluator together. A GPU comes on top,
            `learner.num_gpus` of it, where the learner's device is cuda, or auto and there is one.
    """
    base = settings_of(config)

    def keisei_trial(chosen: dict[str, Any]) -> None:
        _run(base, chosen, metric, num_cpus)

    def resources(chosen: dict[str, Any]) -> Any:
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        return placement(trial_config(base, chosen), num_cpus, has_gpu=has_gpu)

    annotated: Callable[[dict[str, Any]], None] = tune.with_resources(keisei_trial, resources)
    return annotated


def placement(config: Config, num_cpus: float, *, has_gpu: bool) -> Any:
    """The placement group of a trial, as a `PlacementGroupFactory`.

    Args:
        config: the trial's, with devices as given.
        num_cpus: CPUs of the whole trial.
        has_gpu: whether the cluster has a GPU at all.
    """
    return tune.PlacementGroupFactory([{}, *bundles(config, num_cpus, has_gpu=has_gpu)])


def bundles(config: Config, num_cpus: float, *, has_gpu: bool) -> list[dict[str, float]]:
    """What learner, actors and evaluator reserve; see `placement`."""
    device = config.learner.device
    is_on_gpu = device == "cuda" or (device == "auto" and has_gpu)
    learner = {"CPU": learner_cpus(num_cpus)}
    if is_on_gpu:
        learner["GPU"] = config.learner.num_gpus
    each = actor_cpus(config, num_cpus)
    found = [learner, *[{"CPU": each}] * sizes_for(config, num_cpus, each).num_actors]
    evaluation = config.evaluation
    if evaluation.interval_timesteps is not None and evaluation.num_cpus > 0:
        found.append({"CPU": evaluation.num_cpus})
    return found


def check_trial_fits(config: Config, num_cpus: float) -> None:
    """Refuses a trial whose parts have no room in its placement group.

    Raises:
        ClusterError: as `check_fits`.
    """
    trial = Cluster("this sweep", 1, num_cpus, 1, 0, "", is_fixed=True)
    check_fits(resolve_auto(config, num_cpus, 1), trial)


def _run(base: Mapping[str, Any], chosen: Mapping[str, Any], metric: str, num_cpus: float) -> None:
    """The trial's body: blocks until the run has ended; Tune ends it by SystemExit in `report`."""
    context = tune.get_context()
    trial_id = context.get_trial_id()
    run_dir = _run_dir(context.get_storage())
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
    reports = Reports(metric, run_dir, trial_id, config.run.total_timesteps, _send)
    if resume is not None and is_own:
        for event in _reported_before(run_dir, resume.timestep):
            reports.recall(event)
    train(
        config,
        Console(quiet=True),
        cluster=placement_group_cluster(num_cpus),
        subscribers=(ev.Subscriber("tune", reports.handle),),
        should_stop=reports.deliver,
    )
    reports.deliver_rest()


def _send(report: Report, staged: Path | None) -> None:
    tune.report(report, checkpoint=tune.Checkpoint(str(staged)) if staged else None)


def _with(config: Config, **sections: dict[str, Any]) -> Config:
    """A copy with some settings changed."""
    changed = {
        name: getattr(config, name).model_copy(update=values) for name, values in sections.items()
    }
    return config.model_copy(update=changed)


def _run_dir(storage: Any) -> Path:
    """The trial's directory in Tune's storage.

    Raises:
        ConfigError: that is no file system.
    """
    if storage.storage_filesystem.type_name != "local":
        raise ConfigError(
            f"Tune's storage is {storage.storage_filesystem.type_name}, expected a file system "
            "that all nodes share: run directories lie there. Use a path as storage_path."
        )
    return Path(storage.trial_fs_path)


def find_start(
    run_dir: Path, trial_id: str, given: tune.Checkpoint | None
) -> tuple[Checkpoint | None, bool]:
    """The checkpoint in `run_dir` that the trial goes on from, and whether it is its own.

    Tune's may be older than what lies in the directory, or another trial's, which is copied there.

    Args:
        run_dir: the trial's.
        trial_id: whose checkpoints are its own.
        given: what Tune restores the trial from.

    Raises:
        CheckpointError: the given one is damaged or none of a trial.
    """
    own = checkpoint.find_latest(run_dir / CHECKPOINTS_DIR, on_skip=lambda path, cause: None)
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
    """Whose a Tune checkpoint is, and what is in it."""
    try:
        origin = json.loads((directory / ORIGIN_FILE).read_text(encoding="utf-8"))["trial"]
        [path] = (directory / CHECKPOINTS_DIR).iterdir()
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{directory} is not a trial's checkpoint: {error}. Was it kept for too short a time "
            "(CheckpointConfig.num_to_keep)?"
        ) from error
    return origin, checkpoint.load(path)


def _reported_before(run_dir: Path, timestep: int) -> Iterator[ev.Event]:
    """Updates and matches up to `timestep`, from the files of the run directory.

    Raises:
        RunDirError: a file cannot be read.
    """
    for record in JsonLinesReader(run_dir / METRICS_FILE):
        metrics = metrics_from(record)
        if metrics is not None and metrics.timestep <= timestep:
            yield ev.UpdateFinished(metrics)
    for record in JsonLinesReader(run_dir / EVALUATIONS_FILE):
        result = from_record(record)
        if result is not None and result.timestep <= timestep:
            yield ev.EvaluationFinished(result)
