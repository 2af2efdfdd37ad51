"""The question to a node how fast self-play and learning are, by the size of their batches."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import ray
from ray.exceptions import RayError

from keisei_ray.config.batch_sizes import BatchRates, minibatch_rows, sizes_to_try
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ask_node
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.errors import ClusterError
from keisei_ray.rollouts.packed_buffer import PackedBuffer

ANSWER_TIMEOUT_S: Final = 180.0
PLIES: Final = 512
"""Plies that are played for one reading."""
ROUNDS: Final = 3
"""Readings of each size. The fastest counts: other work on the machine slows the others."""
LARGEST_N: Final = 32
"""Most games of the rollout that is learned from."""


def rates_here(config: Config) -> BatchRates:
    """Measures this node's cores in a process of its own. Takes some ten seconds.

    Args:
        config: with every hardware-dependent choice made.

    Raises:
        ClusterError: the node did not measure.
    """
    games, rows = sizes_to_try(config)
    if not games and not rows:
        return BatchRates({}, {})
    here = ray.get_runtime_context().get_node_id()
    try:
        measured: BatchRates = ray.get(
            ask_node(lambda: measured_rates(config, games, rows), here), timeout=ANSWER_TIMEOUT_S
        )
    except RayError as error:
        raise ClusterError(
            f"schedule.tune_batch: no rates were measured: {remote_cause(error)}. "
            "Set schedule.tune_batch=false, and the sizes by hand."
        ) from error
    return measured


def measured_rates(config: Config, games: Sequence[int], rows: Sequence[int]) -> BatchRates:
    """Measures self-play with each number of games, and updates with each micro-batch.

    Args:
        config: with every hardware-dependent choice made.
        games: numbers of games of an actor.
        rows: numbers of rows of a micro-batch.
    """
    from keisei_ray.learning.learner import Learner

    weights = Learner(config).weights()
    return BatchRates(
        _best({n: _playing(config, n, weights) for n in games}),
        _best({n: _learning(config, n) for n in rows}),
    )


def _best(readings: Mapping[int, Callable[[], float]]) -> dict[int, float]:
    """Returns the highest of `ROUNDS` readings of each size; the sizes take turns."""
    rounds = [{size: read() for size, read in readings.items()} for _ in range(ROUNDS)]
    return {size: max(rates[size] for rates in rounds) for size in readings}


def _playing(config: Config, games: int, weights: PackedBuffer) -> Callable[[], float]:
    """Returns what reads the plies/s of an actor with so many games."""
    from keisei_ray.selfplay.self_play import SelfPlay

    config = _with_shape(config, games, max(2, PLIES // games))
    player = SelfPlay(config, actor_id=0, incarnation=0)
    player.set_weights(weights)

    def read() -> float:
        report, _ = player.collect()
        return report.header.timesteps / report.collect_time_s

    return read


def _learning(config: Config, micro_batch: int) -> Callable[[], float]:
    """Returns what reads the samples/s of a learner with that micro-batch."""
    from keisei_ray.learning.learner import Learner
    from keisei_ray.selfplay.self_play import SelfPlay

    rows = minibatch_rows(config)
    games = next(n for n in range(LARGEST_N, 0, -1) if rows % n == 0)
    values = _with_shape(config, games, rows // games).model_dump()
    values["schedule"].update(mode="overlap", rollouts_per_update=1)
    values["learner"].update(
        micro_batch=micro_batch, num_epochs=1, num_minibatches=1, num_learners=1
    )
    values["pretrain"]["records"] = ()
    config = Config.model_validate(values)
    learner = Learner(config)
    player = SelfPlay(config, actor_id=0, incarnation=0)
    player.set_weights(learner.weights())
    _, packed = player.collect()

    def read() -> float:
        learner.weights_version = 0  # So that the same rollout has a lag of 0 again.
        started = time.perf_counter()
        learner.update([packed], 0)
        return rows / (time.perf_counter() - started)

    return read


def _with_shape(config: Config, games: int, plies: int) -> Config:
    """Returns the settings with rollouts of another shape, which no check has seen."""
    shape: dict[str, Any] = {"games_per_actor": games, "rollout_length": plies}
    return config.model_copy(update={"self_play": config.self_play.model_copy(update=shape)})
