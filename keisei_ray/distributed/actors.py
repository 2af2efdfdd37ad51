"""The Ray actors: thin shells around self-play, learner and evaluator. Made only here.

A shell adds what a process needs and nothing else: logging with its own name on every line, a
look at its hardware, and, for the learner, the packing of weights and state. Values are
*returned*, never `ray.put` here, so that the caller owns them and they outlive the actor.

Shells import what they wrap only inside the remote process, so that the driver loads neither torch
nor a model.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from keisei_ray.config.autosize import learner_gpus, self_play_gpus
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ProfileConfig
from keisei_ray.distributed.versions import Versions, check_versions, own_versions
from keisei_ray.evaluation.plan import PlannedMatch
from keisei_ray.rollouts.actor_state import read_state
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.rollouts.reader_state import read_reader
from keisei_ray.selfplay.opponent_mix import OpponentMix
from keisei_ray.telemetry.reports import (
    CollectReport,
    EvaluationResult,
    ProcessInfo,
    Publication,
    UpdateReport,
)

if TYPE_CHECKING:
    from keisei_ray.learning.snapshot import LearnerSnapshot

    Ref: TypeAlias = ray.ObjectRef[Any]
else:
    Ref = ray.ObjectRef  # Generic for the type checker only.
ActorHandle: TypeAlias = Any
"""A remote actor as Ray's caller sees it. Ray makes its methods at run time; no type has them."""

LOWEST_PRIORITY = 19
"""Unix niceness of self-play actors and evaluator. Where cores are shared, the learner goes first:
all actors wait for it."""


PUBLISHING = "publishing"
"""Name of the group of calls to a learner that run beside its other calls."""


class SelfPlayShell:
    """N games in play in a process of their own. Ray runs one call at a time, in order."""

    def __init__(
        self, config: Config, actor_id: int, incarnation: int, driver_versions: Versions
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        actor_id: number of the actor in the run, from 0.
        incarnation: names the actor's games and random streams, see `Progress.next_incarnation`.
        driver_versions: versions that this process must have too.
        """
        self._arguments = (config, actor_id, incarnation)
        self._driver_versions = driver_versions

    def start(self, state: bytes = b"", *networks: PackedBuffer) -> ProcessInfo:
        """Builds games and network. The first call; an error in it says what is wrong here.

        Args:
            state: packed state of this incarnation, from which it plays on; empty: new games.
            networks: packed weights of the snapshots that the state names, in its order.

        Raises:
            ClusterError: this node runs another program than the driver.
            CheckpointError, WireError: the state or a network cannot be used.
        """
        config, actor_id, incarnation = self._arguments
        _check_versions(self._driver_versions)
        os.nice(LOWEST_PRIORITY)
        _name_log_lines(f"actor {actor_id}.{incarnation}", config)
        device = config.self_play.device
        if device != "cuda":
            # Hides every GPU. CUDA is not initialised yet, so this holds for torch too. Where the
            # device is cuda, Ray has made the actor's own GPU the only visible one.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from keisei_ray.pretraining.record_play import RecordPlay
        from keisei_ray.selfplay.self_play import SelfPlay
        from keisei_ray.telemetry.profiler import CallProfiler

        self._self_play: SelfPlay | RecordPlay
        if config.pretrain.records:
            self._self_play = reader = RecordPlay(config, actor_id, incarnation)
            if state:
                reader.restore(read_reader(state))
        else:
            self._self_play = play = SelfPlay(config, actor_id, incarnation)
            if state:
                play.restore(read_state(state), networks)
        # Only actor 0 is profiled: all actors do the same.
        wanted = config.profile if actor_id == 0 else ProfileConfig(updates=0)
        self._profiler = CallProfiler(f"actor-{actor_id}.{incarnation}-rollout", wanted)
        return _process_info(device, 0)

    def collect(
        self, weights: PackedBuffer, mix: OpponentMix, *snapshots: PackedBuffer
    ) -> tuple[CollectReport, PackedBuffer]:
        """Plays T plies in each game.

        Blocks for the whole rollout. If this process dies, the call fails with a Ray actor error
        and nothing of the rollout counts.

        Args:
            weights: packed weights of the learner.
            mix: opponents of the games that begin.
            snapshots: packed weights of the snapshots in `mix`, in its order.

        Returns:
            The report, which is small, and the packed rollout, which the caller may forward
            unopened. The caller owns both.
        """
        self._self_play.set_weights(weights)
        (report, packed), trace = self._profiler.run(
            lambda: self._self_play.collect(mix, snapshots)
        )
        return dataclasses.replace(report, trace=trace), packed


class LearnerShell:
    """The network under training. Ray runs one call at a time, in order, but for `publish`.

    `publish` has a thread of its own: a version is packed while the next update runs. Each call
    takes the oldest version that has not been published.

    Of several learners, learner 0 publishes and reports; all make every update together, so each
    call of `update` or `follow` waits for the calls of the others. Where one of them dies, the
    call of another may fail with a PeerLostError, or not return.
    """

    def __init__(self, config: Config, driver_versions: Versions, rank: int = 0) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        driver_versions: versions that this process must have too.
        rank: number of this learner among several, from 0.
        """
        self._config = config
        self._driver_versions = driver_versions
        self._rank = rank
        self._unpublished: SimpleQueue[LearnerSnapshot] = SimpleQueue()

    def open_group(self) -> tuple[str, int]:
        """Opens the place where several learners meet: of learner 0, before all calls of `start`.

        Returns:
            Its address and port, for `start`. It is open as long as this process lives.

        Raises:
            ClusterError: this node runs another program than the driver.
        """
        _check_versions(self._driver_versions)
        from keisei_ray.learning.learner_group import open_store

        host = str(ray.util.get_node_ip_address())
        self._store = open_store(host)
        return host, self._store.port

    def start(self, meeting_place: tuple[str, int] | None = None) -> ProcessInfo:
        """Builds network and optimizer. An error in it says what is wrong here.

        The first call, but for `open_group`. Several learners wait for each other in it.

        Args:
            meeting_place: where several learners meet, see `open_group`; None: there is one.

        Raises:
            ClusterError: this node runs another program than the driver.
            PeerLostError: another learner cannot be reached.
        """
        _check_versions(self._driver_versions)
        _name_log_lines(f"learner {self._rank}" if meeting_place else "learner", self._config)
        from keisei_ray.learning.learner import Learner
        from keisei_ray.learning.learner_group import find_store, join_group
        from keisei_ray.telemetry.profiler import CallProfiler

        group = None
        if meeting_place is not None:
            store = self._store if self._rank == 0 else find_store(*meeting_place)
            learner = self._config.learner
            group = join_group(store, self._rank, learner.num_learners, device=learner.device)
        self._learner = Learner(self._config, group)
        self._profiler = CallProfiler("learner-update", self._config.profile)
        model = self._learner.model
        return _process_info(
            str(next(model.parameters()).device), sum(p.numel() for p in model.parameters())
        )

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Continues from a checkpoint or from the state of an earlier update.

        Args:
            files: all files of the checkpoint, or the state as `update` returned it.

        Raises:
            CheckpointError: the files do not fit this configuration.
        """
        self._learner.load_state_files(files)

    def begin_as(self, model_file: bytes) -> None:
        """Begins with another run's network, before the first update.

        Args:
            model_file: its model file; the network may be smaller.

        Raises:
            CheckpointError: this learner's network cannot compute what it does.
        """
        self._learner.begin_as(model_file)

    def pull_to(self, model_file: bytes) -> None:
        """Makes a network the one that `learner.kl_start_coef` pulls towards; see `begin_as`."""
        self._learner.pull_to(model_file)

    def snapshot(self) -> None:
        """Leaves the version that this process begins with to `publish`."""
        self._unpublished.put(self._learner.snapshot())

    def update(self, timestep: int, *rollouts: PackedBuffer) -> UpdateReport:
        """Does one update and leaves its version to `publish`.

        Blocks until it is done; Ray has fetched the rollouts before it begins.

        Args:
            timestep: the run's timestep before the update.
            rollouts: packed rollouts; of several learners, the first share of them.

        Returns:
            Figures of the update, but for those that are known once its version is published.

        Raises:
            Exception: the same as `Learner.update`. There is no version of it to be published.
            NumericalError: see `Learner.snapshot`.
        """
        report, trace = self._profiler.run(lambda: self._learner.update(rollouts, timestep))
        self._unpublished.put(self._learner.snapshot())
        return dataclasses.replace(report, trace=trace)

    @ray.method(concurrency_group=PUBLISHING)
    def publish(self) -> tuple[Publication, PackedBuffer, dict[str, bytes]]:
        """Packs a version: once for each call of `snapshot` and `update`, after it has returned.

        Weights and state are packed by a thread each. Most of that is compressing, hashing and
        copying, during which other threads run Python.

        Returns:
            Figures, packed weights, and the state as files: three objects that the caller owns, so
            that nothing of a published version is lost with this process.
        """
        snapshot = self._unpublished.get()
        started = time.perf_counter()
        digest = snapshot.weights.digest  # Both parts name it.
        with ThreadPoolExecutor(1, "pack-weights") as thread:
            packed = thread.submit(snapshot.packed_weights, self._config.wire)
            state = snapshot.state_files()
            weights = packed.result()
        seconds = time.perf_counter() - started
        return Publication(digest, weights.nbytes, seconds), weights, state

    def follow(self, timestep: int, *rollouts: PackedBuffer) -> None:
        """Does another learner's part of an update: all but learner 0.

        Args:
            timestep: the run's timestep before the update.
            rollouts: packed rollouts, this learner's share of them.

        Raises:
            Exception: the same as `Learner.update`.
        """
        self._learner.update(rollouts, timestep)


class EvaluationShell:
    """Plays matches of published weights. Ray runs one call at a time, in order."""

    def __init__(self, config: Config, incarnation: int) -> None:
        os.nice(LOWEST_PRIORITY)
        _name_log_lines(f"evaluator.{incarnation}", config)
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from keisei_ray.evaluation.evaluator import Evaluator

        self._evaluator = Evaluator(config)
        self._counted_s = 0.0
        """CPU time that the caller knows of."""

    def play(
        self, match: PlannedMatch, weights: PackedBuffer, opponent_weights: PackedBuffer | None
    ) -> tuple[EvaluationResult, float]:
        """Plays a whole match. Blocks until its last game is over; the caller owns the result.

        The number beside it is the CPU time that this process, with the engines that it has ended,
        has taken since its last answer: the match, and before the first match the start.

        If this process dies, the call fails with a Ray actor error and no game of the match counts.

        Args:
            match: players, number of games, seed.
            weights: packed weights to be measured.
            opponent_weights: packed weights of the opponent if it is an earlier version.

        Raises:
            Exception: the same as `Evaluator.play`.
        """
        result = self._evaluator.play(match, weights, opponent_weights)
        before_s, self._counted_s = self._counted_s, sum(os.times()[:4])
        return result, self._counted_s - before_s


def new_self_play_actor(
    config: Config, actor_id: int, incarnation: int, *, num_cpus: float
) -> ActorHandle:
    """Asks Ray for a self-play actor, with its part of a GPU if that is its device.

    Call `start` on it first.

    Args:
        config: with every hardware-dependent choice made.
        actor_id: number of the actor in the run.
        incarnation: see `SelfPlayShell`.
        num_cpus: CPUs that Ray reserves.
    """
    actor: Any = ray.remote(SelfPlayShell)
    options: dict[str, object] = {"num_cpus": num_cpus, "num_gpus": self_play_gpus(config)}
    if ray.util.get_current_placement_group() is None:
        # In a placement group any strategy, even the default by name, would lead out of it.
        options["scheduling_strategy"] = "SPREAD"
    return actor.options(**options).remote(config, actor_id, incarnation, own_versions())


def new_learner_actor(
    config: Config, rank: int = 0, *, num_cpus: float, scheduling_strategy: Any = None
) -> ActorHandle:
    """Asks Ray for a learner actor, with a GPU if that is its device; call `start` first.

    Args:
        config: with every hardware-dependent choice made.
        rank: number of the learner among several, from 0.
        num_cpus: CPUs that Ray reserves.
        scheduling_strategy: Ray's, for example of a placement group. None is Ray's default: the
            placement group of this process if it is in one.
    """
    return (
        remote_learner(LearnerShell)
        .options(
            num_cpus=num_cpus,
            num_gpus=learner_gpus(config),
            scheduling_strategy=scheduling_strategy,
        )
        .remote(config, own_versions(), rank)
    )


def remote_learner(shell: type) -> ActorHandle:
    """Returns Ray's actor class of a learner shell, in which `publish` has a thread of its own.

    Args:
        shell: `LearnerShell`, or what stands in for it.
    """
    remote: Any = ray.remote  # Ray's type lacks the groups.
    return remote(concurrency_groups={PUBLISHING: 1})(shell)


def new_evaluation_actor(config: Config, incarnation: int) -> ActorHandle:
    """Asks Ray for an evaluator.

    Args:
        config: with every hardware-dependent choice made.
        incarnation: number of the process among the evaluator's.
    """
    actor: Any = ray.remote(EvaluationShell)
    return actor.options(num_cpus=config.evaluation.num_cpus, num_gpus=0).remote(
        config, incarnation
    )


def new_pinned_actor(pinned: type, *arguments: object, node_id: str) -> ActorHandle:
    """Asks Ray for an actor on one node, which reserves no CPU and no GPU there.

    Args:
        pinned: an ordinary class that can be imported on that node.
        arguments: arguments of its constructor.
        node_id: Ray's id of the node, in hex.
    """
    actor: Any = ray.remote(pinned)
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return actor.options(num_cpus=0, num_gpus=0, scheduling_strategy=strategy).remote(*arguments)


def ask_node(question: Callable[[], object], node_id: str) -> Ref:
    """Asks Ray for a function's value on one node, once; it reserves nothing there.

    Args:
        question: an ordinary function that can be imported on that node.
        node_id: Ray's id of the node, in hex.
    """
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task: Any = ray.remote(question)
    asked: Ref = task.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote()
    return asked


def _check_versions(driver_versions: Versions) -> None:
    """Checks the program before anything is built: another version may fail in any way."""
    check_versions(str(ray.util.get_node_ip_address()), own_versions(), driver_versions)


def _process_info(device: str, num_parameters: int) -> ProcessInfo:
    import torch

    name = device
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    return ProcessInfo(
        pid=os.getpid(),
        node=ray.util.get_node_ip_address(),
        device=name,
        num_parameters=num_parameters,
    )


def _name_log_lines(name: str, config: Config) -> None:
    """Puts the actor's name on every log line of this process."""
    logging.basicConfig(
        level=config.tracking.log_level,
        format=f"%(asctime)s %(levelname)-7s [{name}] %(name)s: %(message)s",
        force=True,
    )
