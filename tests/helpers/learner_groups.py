"""Groups of learners in processes of their own, which make the same updates as one learner."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]

from keisei_ray.config.schema import Config
from keisei_ray.errors import RejectedRolloutsError
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.learner_group import LearnerGroup, join_group
from keisei_ray.network.weights import state_arrays
from keisei_ray.storage.run_layout import MODEL_FILE
from keisei_ray.telemetry.reports import UpdateReport

WAIT_S = 120.0
"""Seconds after which a learner that does not answer fails its test."""

Updates = Sequence[Sequence[np.ndarray]]
"""For each update of a run its packed rollouts."""


@dataclass(frozen=True)
class Trained:
    """Reports and weights of a learner after some updates."""

    reports: tuple[UpdateReport | dict[int, str], ...]
    """Report of each update, or which rollouts it rejected."""
    weights: dict[str, np.ndarray]
    generator: torch.Tensor
    """State of the random generator of minibatches."""


def train(config: Config, updates: Updates, group: LearnerGroup | None = None) -> Trained:
    """Makes updates, each from this learner's share of its rollouts."""
    learner = Learner(config, group)
    if config.learner.kl_start_coef:
        learner.pull_to(Learner(config).state_files()[MODEL_FILE])
    reports: list[UpdateReport | dict[int, str]] = []
    for rollouts in updates:
        timestep = learner.weights_version * config.timesteps_per_update
        try:
            reports.append(learner.update(share(rollouts, group or LearnerGroup()), timestep))
        except RejectedRolloutsError as error:
            reports.append(error.causes)
    weights = {name: array.copy() for name, array in state_arrays(learner.model).items()}
    return Trained(tuple(reports), weights, learner._generator.get_state())


def share(rollouts: Sequence[np.ndarray], group: LearnerGroup) -> Sequence[np.ndarray]:
    """The rollouts that a learner of the group is given: as even as can be, in order."""
    bounds = [rank * len(rollouts) // group.size for rank in range(group.size + 1)]
    return rollouts[bounds[group.rank] : bounds[group.rank + 1]]


@contextmanager
def processes(number: int) -> Iterator[Pool]:
    """Processes for the learners of a group; ended at once, also in the middle of an update.

    They are copies of one that has imported torch.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(number) as pool:
        yield pool


def train_together(
    pool: Pool, size: int, store: Path, config: Config, updates: Updates
) -> list[Trained]:
    """Makes updates with a group of learners; returns what each of them had, by rank.

    Args:
        pool: processes, at least as many as learners.
        size: number of learners.
        store: path of a file that does not exist, by which they meet.
        config: their settings.
        updates: see `Updates`.
    """
    answers = [
        pool.apply_async(_train_one, (str(store), rank, size, config, updates))
        for rank in range(size)
    ]
    return [answer.get(WAIT_S) for answer in answers]


def _train_one(store: str, rank: int, size: int, config: Config, updates: Updates) -> Trained:
    group = join_group(FileStore(store, size), rank, size, device="cpu")
    try:
        return train(config, updates, group)
    finally:
        distributed.destroy_process_group()  # Else the others wait for a learner that has failed.


def without_times(report: UpdateReport) -> UpdateReport:
    """A report without what the clock decides."""
    return replace(report, update_time_s=0.0, stages=type(report.stages)())
