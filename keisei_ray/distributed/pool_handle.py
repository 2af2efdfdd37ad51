"""The driver's handle on the opponent pool: the table, and the weights of its snapshots.

A snapshot's weights are a reference to what the learner published. The driver keeps it and hands it
to the actors that play against the snapshot. A copy of its bytes lies in the run directory, named
by version and digest, so that a resumed run has the same pool.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Container, Iterable
from pathlib import Path

import numpy as np
import ray
from ray.exceptions import RayError

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import Ref
from keisei_ray.errors import CheckpointError, RunDirError, WireError
from keisei_ray.rollouts.actor_state import NO_OPPONENT, ActorState
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.rollouts.weights_header import peek_weights
from keisei_ray.selfplay.opponent_mix import OpponentMix, SnapshotRotation
from keisei_ray.selfplay.pool import Pool
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.pool_table import PoolMember, read_table, snapshot_name, table_json
from keisei_ray.storage.run_layout import (
    POOL_DIR,
    POOL_FILE,
    POOL_WEIGHTS_GLOB,
    TEMPORARY_PREFIX,
)
from keisei_ray.telemetry.events import EventBus, Notice
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.reports import BenchedMember

logger = logging.getLogger(__name__)

READ_S = 10.0
"""Longest wait for weights that are in the object store."""


class PoolHandle:
    """The run's opponent pool."""

    def __init__(self, config: Config, bus: EventBus, run_dir: Path, resume: Checkpoint | None):
        """Args:
        config: with every hardware-dependent choice made.
        bus: gets a notice of each member that joins or leaves.
        run_dir: directory of the run, which keeps the snapshots' weights in `pool/`.
        resume: checkpoint whose pool is continued once `restore` is called; None: a fresh run.

        Raises:
            CheckpointError: the checkpoint's table is damaged.
        """
        self._bus = bus
        self._dir = run_dir / POOL_DIR
        self._resume = resume
        self._pool = Pool(config.pool)
        self._former: dict[str, PoolMember] = {}
        """Snapshots that have left the pool, against which games may still be in play."""
        if resume is not None and POOL_FILE in resume.files:
            self._pool.restore(resume.files[POOL_FILE])
            saved = read_table(resume.files[POOL_FILE], with_former=True)
            stay = {member.name for member in self._pool.members}
            self._former = {m.name: m for m in saved if m.is_snapshot and m.name not in stay}
        self._rotation = SnapshotRotation(config, self._pool)
        self._weights: dict[str, Ref] = {}
        self._scripted = config.pool.members if config.pool.share > 0 else ()
        every = config.pool.snapshot_interval_timesteps
        self._snapshot_due = None
        if every is not None and config.pool.share > 0:
            self._snapshot_due = PeriodicTrigger(every, last=resume.timestep if resume else 0)

    def restore(self) -> None:
        """Puts the weights of the resumed run's snapshots into the object store.

        The weights are read from the checkpoint's own run, and copied if this run has another
        directory. A snapshot whose weights are missing or damaged leaves the pool, with a notice.

        Raises:
            RunDirError: a copy cannot be written.
        """
        if self._resume is None:
            return
        source = self._resume.path.parent.parent / POOL_DIR
        for member in (*self._pool.snapshots, *self._former.values()):
            path = source / member.weights_name
            try:
                content = path.read_bytes()
            except OSError as error:
                self._skip(member, f"{path}: {error.strerror or error}")
                continue
            if hashlib.sha256(content).hexdigest() != member.digest:
                self._skip(member, f"{path} is damaged: its SHA-256 is not the pool's")
                continue
            try:
                saved = peek_weights(content)
            except WireError as error:
                self._skip(member, f"{path}: {error}")
                continue
            if saved.version != member.weights_version:
                self._skip(member, f"{path} holds version {saved.version}")
                continue
            if source != self._dir:
                self._write(member, content)
            self._weights[member.name] = ray.put(np.frombuffer(content, np.uint8))

    def missing(self, state: ActorState) -> list[str]:
        """Returns the opponents in an actor's state that this run does not have."""
        opponents = {*state.pairing.opponents} - {NO_OPPONENT, *self._scripted}
        return sorted((opponents | {*state.pairing.networks}) - {*self._weights})

    def go_on(self, state: ActorState) -> list[Ref]:
        """Makes the mixes that follow an actor's state.

        Returns:
            Packed weights of the networks in the state, in their order.
        """
        self._rotation.restore(state)
        return [self._weights[name] for name in state.pairing.networks]

    def next_mix(self, actor_id: int, incarnation: int) -> tuple[OpponentMix, list[Ref]]:
        """Returns the opponents of an actor's new games, and the weights of its snapshots.

        Both are passed on to `SelfPlayShell.collect` as they are.
        """
        mix = self._rotation.next_mix(actor_id, incarnation)
        return mix, [self._weights[name] for name in mix.snapshots]

    def count(self, games: Iterable[FinishedGame]) -> None:
        """Counts the results of games that have just been consumed."""
        self._pool.count(games)

    def bench(self, member: BenchedMember, actor_id: int) -> None:
        """Gives a member that has failed no games any more in this session; says so once.

        Args:
            member: the member and what it did.
            actor_id: actor that played against it.
        """
        if not self._pool.bench(member.name):
            return
        is_last = not self._pool.probabilities()
        left = "; no opponent is left, all games are self-play" if is_last else ""
        self._bus.publish(
            Notice(
                f"{member.name} is benched for the rest of this session (actor {actor_id}): "
                f"{member.cause.rstrip('.')}. Its games go on as self-play{left}",
                "WARNING",
            )
        )

    def add_if_due(self, timestep: int, weights_version: int, weights: Ref) -> None:
        """Adds a snapshot of the newest weights to the pool if one is due.

        Blocks while its bytes are written.

        Args:
            timestep: the run's timestep, now.
            weights_version: version of the weights.
            weights: packed weights of a finished update, so that nothing waits for them.

        Raises:
            RunDirError: the weights cannot be written. The pool is as it was before.
        """
        if self._snapshot_due is None or not self._snapshot_due.is_due(timestep):
            return
        content = ray.get(weights).tobytes()
        digest = hashlib.sha256(content).hexdigest()
        member = PoolMember(snapshot_name(weights_version), weights_version, digest)
        self._write(member, content)  # First: a table never names a file that is not there.
        gone = self._pool.add_snapshot(weights_version, digest)
        self._weights[member.name] = weights
        left = ""
        if gone is not None:
            self._former[gone.name] = gone
            left = f"; {gone.name}, against which the learner scores {gone.score:.2f}, leaves"
        self._bus.publish(Notice(f"{member.name} joins the opponent pool{left}"))

    def forget_former(self, in_play: Callable[[], Container[str]]) -> None:
        """Drops the snapshots that have left the pool and against which no game is in play.

        Args:
            in_play: returns every snapshot against which one is, or may be in a rollout in play;
                called only if a snapshot has left.
        """
        names = in_play() if self._former else ()
        for name in [name for name in self._former if name not in names]:
            del self._former[name]
            self._weights.pop(name, None)

    def files(self) -> dict[str, bytes]:
        """Returns the files of the pool that a checkpoint keeps."""
        table = table_json(self._pool.members, self._former.values())
        return {POOL_FILE: table.encode()}

    def move_to(self, run_dir: Path) -> None:
        """Goes on in another directory, and writes the weights that are missing there.

        Those that cannot be read, because Ray is gone, are left out; a resume says which.

        Raises:
            RunDirError: the weights cannot be written.
        """
        self._dir = run_dir / POOL_DIR
        for member in (*self._pool.snapshots, *self._former.values()):
            if not (self._dir / member.weights_name).exists():
                with contextlib.suppress(RayError):
                    weights = self._weights[member.name]
                    self._write(member, ray.get(weights, timeout=READ_S).tobytes())

    def prune(self, checkpoints_dir: Path) -> None:
        """Removes the files of snapshots that neither the pool nor any checkpoint names.

        With them go temporary files of a process that was killed while it wrote one: this process
        alone writes here, and not now. While a checkpoint's table cannot be read, nothing is
        removed. A file that cannot be removed is warned of and tried again at the next call.

        Args:
            checkpoints_dir: directory of the run's checkpoints.
        """
        try:
            tables = [path.read_bytes() for path in checkpoints_dir.glob(f"*/{POOL_FILE}")]
            named = [m for table in tables for m in read_table(table, with_former=True)]
        except (CheckpointError, OSError, ValueError) as error:
            logger.warning("no snapshot of the opponent pool is removed: %s", error)
            return
        kept = (*named, *self._pool.snapshots, *self._former.values())
        used = {member.weights_name for member in kept}
        left_over = self._dir.glob(f"{TEMPORARY_PREFIX}*")
        for path in (*self._dir.glob(POOL_WEIGHTS_GLOB), *left_over):
            if path.name not in used:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    logger.warning(
                        "%s cannot be removed: %s. It is tried again with the next checkpoint; "
                        "training goes on",
                        path,
                        error.strerror or error,
                    )

    def _write(self, member: PoolMember, content: bytes) -> None:
        path = self._dir / member.weights_name
        try:
            self._dir.mkdir(exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise RunDirError(f"{path} cannot be written: {error.strerror or error}.") from error

    def _skip(self, member: PoolMember, cause: str) -> None:
        if self._former.pop(member.name, None):
            return  # The games against it are not kept, which has a notice of its own.
        self._pool.remove(member.name)
        self._bus.publish(
            Notice(f"{member.name} is no longer in the opponent pool: {cause}", "WARNING")
        )
