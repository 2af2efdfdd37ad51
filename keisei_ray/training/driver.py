"""The driver: the loop that trains. Owns progress and metrics; sees references, no tensors.

One thread, one place that waits. What is under way, who ends it, who owns the result:

    actor starting    its `start` answers, or Ray reports its death      nothing to own
    rollout in play   `collect` returns, or Ray reports its death        report, rollout: driver's
    update            `update` returns, or Ray reports its death         report, weights, state: all
                                                                         the driver's

Both schedules are this loop. `lockstep` is a lag of zero with one rollout of every actor in each
update; `overlap` lets `max_policy_lag + 1` updates' worth of rollouts be under way, so that
actors play while the learner learns. Backpressure is that bound: an actor is asked for a rollout
only while fewer are unconsumed. The oldest weights are consumed first, and an update waits for
any rollout that would be too old for the next one, so the lag never exceeds its limit, however
the number of actors and of rollouts in an update change with the cluster.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayError

from keisei_ray.config.autosize import learner_cpus
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import Ref, remote_cause
from keisei_ray.distributed.cluster import Cluster, learner_placement_group
from keisei_ray.distributed.cluster_watch import ClusterWatch
from keisei_ray.distributed.evaluation_handle import EvaluationHandle
from keisei_ray.distributed.fleet import Fleet, Member
from keisei_ray.distributed.learner_handle import (
    DEATHS,
    POLL_S,
    LearnerHandle,
    Published,
    StopRequested,
    rejected_rollouts,
)
from keisei_ray.distributed.pool_handle import PoolHandle
from keisei_ray.errors import KeiseiError, UserError
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, PROGRESS_FILE
from keisei_ray.telemetry.diagnostics import diagnose, traces
from keisei_ray.telemetry.events import (
    ActorLost,
    ActorReady,
    CheckpointSaved,
    EventBus,
    GameFinished,
    Notice,
    RolloutArrived,
    RolloutRejected,
    UpdateDiagnosed,
    UpdateFinished,
)
from keisei_ray.telemetry.metrics import update_metrics
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo, UpdateReport
from keisei_ray.training.saved_run import check_digest, save_run

logger = logging.getLogger(__name__)


@dataclass
class InPlay:
    """A rollout that an actor is playing."""

    member: Member
    version: int
    rollout: Ref


@dataclass
class Arrived:
    """A rollout that waits for the learner. The driver owns both objects."""

    report: CollectReport
    rollout: Ref


class Driver:
    """One training run from its first actor to its last checkpoint."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        bus: EventBus,
        run_dir: Path,
        *,
        resume: Checkpoint | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        cluster: what Ray offers.
        bus: told of everything that happens.
        run_dir: where checkpoints go.
        resume: continue from here instead of timestep 0.
        should_stop: asked at least every `POLL_S`; True ends the run after saving.
        clock: monotonic seconds.
        """
        self.config = config
        self.bus = bus
        self.checkpoints_dir = run_dir / CHECKPOINTS_DIR
        self.progress = (
            Progress.from_json(resume.files[PROGRESS_FILE].decode()) if resume else Progress()
        )
        self.last_checkpoint = resume.path if resume else None
        self._resume = resume
        self._should_stop = should_stop
        self._clock = clock
        self._watch = ClusterWatch(config, cluster, bus, clock=clock)
        self._fleet = Fleet(
            config,
            num_cpus_per_actor=self._watch.cpus_per_actor,
            next_incarnation=self.progress.next_incarnation,
            clock=clock,
        )
        self._fleet.resize(self._watch.sizes)
        self._learner = LearnerHandle(
            config,
            bus,
            num_cpus=learner_cpus(cluster.num_cpus),
            reserve=lambda: learner_placement_group(config, cluster),
            should_stop=should_stop,
            clock=clock,
        )
        self._evaluation = EvaluationHandle(config, bus, run_dir, self.progress, clock=clock)
        self.pool = PoolHandle(config, bus, run_dir, resume)
        self._checkpoint_due = PeriodicTrigger(
            config.checkpoint.interval_timesteps, last=self.progress.timestep
        )
        self._in_play: dict[Ref, InPlay] = {}
        self._arrived: list[Arrived] = []
        self._updating: dict[Ref, tuple[list[Arrived], Published]] = {}
        self._last_tick = self._last_update = self._idle_since = clock()
        self._waited, self._saved_timestep = 0.0, resume.timestep if resume else -1

    def run(self) -> None:
        """Trains until `total_timesteps` or a stop request, then saves.

        On every way out its actors are gone, and what was learnt up to the last finished update
        is saved; only a KeyboardInterrupt does not wait for that.

        Raises:
            ActorLostError: an actor died too often.
            KeiseiError, RayError: whatever an actor raised and no restart can put right.
        """
        try:
            self._start_learner()
            self._train()
            self._fleet.dismiss()
            self._evaluation.finish(self._should_stop)
        except StopRequested:
            logger.info("stopped before the learner was up: nothing to save")
        finally:
            for part in (self._fleet, self._learner, self._evaluation):
                part.dismiss()

    def _train(self) -> None:
        try:
            total = self.config.run.total_timesteps
            while self.progress.timestep < total and not self._should_stop():
                self._fleet.start_waiting()
                self._ask_for_rollouts()
                self._start_update()
                for ref in self._wait():
                    if ref in self._in_play:
                        self._finish_rollout(ref)
                    elif ref in self._updating:
                        self._finish_update(ref)
                    elif not self._learner.keep(ref):
                        self._finish_start(ref)
                self._replace_overdue()
                if self._watch.poll():
                    self._fleet.resize(self._watch.sizes)
                self._evaluation.poll(self.progress, self._learner.published)
        except StopRequested:
            pass  # The newest finished update outlived its learner.
        except KeyboardInterrupt:
            raise  # Asked twice: now means now.
        except BaseException:
            self._save_what_there_is()
            raise
        if self._should_stop():
            self.bus.publish(Notice("asked to stop: saving; ask again to leave without"))
        self._tick()
        self.save()

    def save(self) -> None:
        """Saves the newest finished update, once."""
        if self._saved_timestep == self.progress.timestep:
            return
        path = save_run(
            self.checkpoints_dir,
            self.config,
            self.progress,
            ray.get(self._learner.published.state),
            self._learner.digest,
            self.pool.files(),
        )
        self._saved_timestep = self.progress.timestep
        self.last_checkpoint = path
        self.pool.prune(self.checkpoints_dir)
        self.bus.publish(CheckpointSaved(path=str(path), timestep=self.progress.timestep))

    # ---- what the loop starts ----

    def _ask_for_rollouts(self) -> None:
        """Gives idle actors work while fewer rollouts are unconsumed than the lag allows."""
        if self._updating and self.config.effective_max_lag == 0:
            return  # The update under way makes the weights that they would play with too old.
        remaining = self.config.run.total_timesteps - self.progress.timestep
        count = self._watch.sizes.rollouts_per_update
        updates = -(-remaining // (count * self.config.timesteps_per_rollout))
        limit = min(self._watch.sizes.num_unconsumed, count * updates)
        unconsumed = self._unconsumed()
        # Lockstep: one rollout of every actor in each update, never two of one.
        is_lockstep = self.config.schedule.mode == "lockstep"
        excluded = {a.report.header.actor_id for a in unconsumed if is_lockstep}
        while len(self._in_play) + len(unconsumed) < limit:
            member = self._fleet.take_idle(excluded)
            if member is None:
                return
            newest = self._learner.published
            mix, snapshots = self.pool.next_mix(member.actor_id, member.incarnation)
            report, rollout = member.handle.collect.options(num_returns=2).remote(
                newest.weights, mix, *snapshots
            )
            self._in_play[report] = InPlay(member, newest.version, rollout)

    def _unconsumed(self) -> list[Arrived]:
        """Rollouts that were delivered and whose update has not finished."""
        return [a for batch, _ in self._updating.values() for a in batch] + self._arrived

    def _start_update(self) -> None:
        """Gives the learner its next rollouts if it is idle and they are all there."""
        count = self._watch.sizes.rollouts_per_update
        if self._updating or len(self._arrived) < count:
            return
        # In play with weights that will be too old after this update: it waits for them.
        oldest_allowed = self._learner.published.version + 1 - self.config.effective_max_lag
        if any(flight.version < oldest_allowed for flight in self._in_play.values()):
            return
        self._arrived.sort(key=lambda a: a.report.header.weights_version)  # stable: by arrival
        # More than R may be at the limit when R has just shrunk with the cluster.
        versions = [arrived.report.header.weights_version for arrived in self._arrived]
        count = max(count, sum(version < oldest_allowed for version in versions))
        batch, self._arrived = self._arrived[:count], self._arrived[count:]
        # Within an update the order is the actors', so that timing cannot change the sums.
        batch.sort(key=lambda a: (a.report.header.weights_version, a.report.header.actor_id))
        report, published = self._learner.update(
            self.progress.timestep, [arrived.rollout for arrived in batch]
        )
        self._updating[report] = (batch, published)
        self._waited = self._clock() - self._idle_since

    def _wait(self) -> list[Ref]:
        """The references that are ready now, after waiting for one at most `POLL_S`."""
        refs = [*self._updating, *self._in_play, *self._fleet.starting, *self._learner.to_keep()]
        if not refs:
            time.sleep(POLL_S)
            return []
        ready, _ = ray.wait(refs, num_returns=1, timeout=POLL_S)
        if ready:
            # Whatever else is ready comes along, so that no kind of event starves another.
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return list(ready)

    # ---- what the loop finishes ----

    def _finish_start(self, ref: Ref) -> None:
        member = self._fleet.starting_member(ref)
        try:
            info: ProcessInfo = ray.get(ref)
        except RayError as error:
            self._replace(member, error)
            return
        self._fleet.started(ref)
        self.bus.publish(ActorReady(member.actor_id, member.incarnation, info.pid, info.node))

    def _finish_rollout(self, ref: Ref) -> None:
        flight = self._in_play.pop(ref)
        try:
            report: CollectReport = ray.get(ref)
        except RayError as error:
            self._replace(flight.member, error)
            return
        self._fleet.give_back(flight.member)
        self.progress.collect(report.header)
        waiting = [arrived.report.header for arrived in self._unconsumed()]
        if self.progress.is_duplicate(report.header) or report.header in waiting:
            self._reject(report, "delivered before")
            return
        self._arrived.append(Arrived(report, flight.rollout))
        header = report.header
        self.bus.publish(
            RolloutArrived(
                header.actor_id, header.incarnation, header.weights_version, header.timesteps
            )
        )

    def _finish_update(self, ref: Ref) -> None:
        batch, published = self._updating.pop(ref)
        try:
            report: UpdateReport = ray.get(ref)
        except DEATHS as error:
            self._arrived = batch + self._arrived
            self._learner.relaunch(error)
            self._idle_since = self._clock()
            return
        except RayError as error:
            bad = rejected_rollouts(error, [arrived.rollout for arrived in batch])
            for index, cause in bad.items():
                self._reject(batch[index].report, cause)
            kept = [a for index, a in enumerate(batch) if index not in bad]
            self._arrived = kept + self._arrived
            return
        self._learner.adopt(published, report.weights_digest)
        self._record(report, [arrived.report for arrived in batch])
        self.pool.add_if_due(self.progress.timestep, published.version, published.weights)
        if self._checkpoint_due.is_due(self.progress.timestep):
            self.save()

    def _record(self, report: UpdateReport, collected: list[CollectReport]) -> None:
        """Counts an update's timesteps and games, once, and tells the world."""
        progress = self.progress
        games = [game for c in collected for game in c.games]
        progress.consume([c.header for c in collected], games)
        self.pool.count(games)
        progress.finish_update(report.weights_version)
        self._tick()
        now = self._clock()
        since_last, self._last_update, self._idle_since = now - self._last_update, now, now
        for game in games:
            self.bus.publish(GameFinished(game, progress.timestep))
        metrics = update_metrics(
            progress,
            report,
            collected,
            since_last_s=since_last,
            waited_s=self._waited,
            actors_alive=self._fleet.num_alive,
        )
        last = collected[-1]
        self.bus.publish(UpdateFinished(metrics, last.sample_sfen, last.sample_last_move or None))
        found = diagnose(progress, report, collected)
        self.bus.publish(UpdateDiagnosed(found, traces(report, collected)))

    # ---- faults ----

    def _start_learner(self) -> None:
        """Brings the learner up before any actor: what cannot be built is known at once."""
        resume = self._resume
        info = self._learner.launch(self.progress.weights_version, resume.files if resume else None)
        if resume:
            check_digest(resume, self._learner.digest)
        self.bus.publish(
            Notice(f"learner ready: {info.num_parameters:,} parameters on {info.device}")
        )
        self.pool.restore()
        self._idle_since = self._clock()

    def _replace(self, member: Member, error: BaseException) -> None:
        """A dead or failing self-play actor: its unfinished rollout never existed."""
        cause = remote_cause(error)
        if isinstance(cause, UserError):
            raise cause from error
        left = self._fleet.replace(member, error)
        self.progress.restart_actor()
        self.bus.publish(ActorLost(member.actor_id, member.incarnation, str(error), left))

    def _save_what_there_is(self) -> None:
        """On the way out of a failure: whatever saving raises must not hide the failure."""
        try:
            self._tick()
            self.save()
        except (KeiseiError, RayError, OSError):
            logger.exception("the last state could not be saved")

    def _replace_overdue(self) -> None:
        for member in self._fleet.overdue():
            limit = self.config.cluster.start_timeout_s
            self._replace(member, TimeoutError(f"no answer within {limit:g} s of its start"))

    def _reject(self, report: CollectReport, cause: str) -> None:
        self.progress.reject_rollout()
        self.bus.publish(RolloutRejected(report.header.actor_id, cause))

    # ---- time ----

    def _tick(self) -> None:
        """Brings the run's wall time up to now."""
        now = self._clock()
        self.progress.add_wall_time(now - self._last_tick)
        self._last_tick = now
