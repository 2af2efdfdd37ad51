"""The driver: the loop that trains. Owns progress and metrics; holds references, never data.

One turn of the loop, `Driver._train`:

    ask       idle actors for rollouts, as far as `admission` allows
    update    the learner is given the next rollouts, if it is idle and they are all here; the
              version that it has made before may still be on its way
    wait      for anything that is ready
    take      what is ready: an actor that has started, a rollout, an update
    replace   actors and learner whose answer is overdue; hand the newest state to the standby
              process; follow the cluster; evaluate

An update that is taken is published, recorded and, when it is due, saved: its state is handed to a
thread that writes it (`saving`), and a later turn publishes that it is on the disk.

Everything else is done in one thread, and there is one place that waits. What can be under way,
what ends it, and who owns the results:

    a starting actor     its `start` answers, or Ray reports its death      no results
    a rollout in play    `collect` returns, or Ray reports its death        the driver
    an update            the learner has made it, or Ray reports its death  the driver
    a version of one     it is all here, or Ray reports the learner's death the driver
    a checkpoint         it is on the disk, or its writing has failed       the disk

The first four have a deadline as well (`distributed/deadlines.py`). `_awaited` is the table of all
references that the loop waits for, and `_take` has the rule for one that is not in it any more.

Both schedules are this loop. `lockstep` is a lag of zero with one rollout of every actor in each
update; `overlap` lets `max_policy_lag + 1` updates' worth of rollouts be unconsumed, so that actors
play while the learner learns. `admission` has the rules and the proof that the lag stays within
its limit.
"""

import contextlib
import enum
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError

from keisei_ray.config.autosize import learner_cpus, learner_gpus
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import Ref
from keisei_ray.distributed.cluster import Cluster, learner_placement_group
from keisei_ray.distributed.cluster_room import RoomNotice, free_cpus
from keisei_ray.distributed.cluster_watch import ClusterWatch
from keisei_ray.distributed.deadlines import AwakeClock, Deadlines
from keisei_ray.distributed.evaluation_handle import EvaluationHandle
from keisei_ray.distributed.fleet import ActorStart, Fleet, FleetActor
from keisei_ray.distributed.learner_handle import (
    LEARNER_LOST,
    LearnerHandle,
    SeveralLearnersLost,
    StateRefused,
    StopRequested,
    UpdateUnderWay,
    rejected_rollouts,
)
from keisei_ray.distributed.pool_handle import PoolHandle
from keisei_ray.distributed.supervision import POLL_S
from keisei_ray.errors import (
    RefusedStateError,
    RejectedRolloutsError,
    RunDirLostError,
    TakenOverError,
)
from keisei_ray.rollouts.actor_state import pack_state, read_state
from keisei_ray.rollouts.reader_state import pack_reader
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import ACTORS_FILE, MODEL_FILE, PROGRESS_FILE, READERS_FILE
from keisei_ray.telemetry.diagnostics import diagnose, traces
from keisei_ray.telemetry.divergence import RunHealth
from keisei_ray.telemetry.events import (
    ActorLost,
    ActorReady,
    EventBus,
    GameFinished,
    Notice,
    RolloutArrived,
    RolloutRejected,
    UpdateDiagnosed,
    UpdateFinished,
    UpdateUndone,
)
from keisei_ray.telemetry.metrics import update_metrics
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo, UpdateReport
from keisei_ray.training.actor_states import ActorStates
from keisei_ray.training.admission import Admission
from keisei_ray.training.reader_states import ReaderStates
from keisei_ray.training.saved_run import RunState, check_digest, state_of, trouble_of
from keisei_ray.training.saving import RunSaver
from keisei_ray.training.standby import Standby

logger = logging.getLogger(__name__)


@dataclass
class RolloutInPlay:
    """A rollout that an actor is playing."""

    actor: FleetActor
    weights_version: int
    """Version of the weights that it is played with."""
    packed: Ref
    """The rollout itself, once it has been played."""
    snapshots: tuple[str, ...] = ()
    """Snapshots against which games may begin in it."""


@dataclass
class DeliveredRollout:
    """A rollout that waits for the learner, or is in the update under way."""

    report: CollectReport
    packed: Ref
    """The rollout itself. The driver owns it and never opens it."""

    @property
    def weights_version(self) -> int:
        """Version of the weights that played it."""
        return self.report.header.weights_version

    @property
    def actor_id(self) -> int:
        """Actor that played it."""
        return self.report.header.actor_id


class Stage(enum.Enum):
    """Part of a run that the driver is in."""

    STARTING = enum.auto()
    """The learner starts; nothing has been learned yet."""
    TRAINING = enum.auto()
    SAVING = enum.auto()
    """The driver waits until the disk has a checkpoint."""
    ENDING = enum.auto()
    """Nothing is left to be saved, or nothing is to be saved."""


class Driver:
    """One training run from its first actor to its last checkpoint.

    Attributes:
        stage: for the thread that waits for the driver.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        bus: EventBus,
        run_dir: Path,
        *,
        resume: Checkpoint | None = None,
        initial: Checkpoint | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        check_place: Callable[[], object] = lambda: None,
        waits_for_saving: bool = False,
        standby: Standby | None = None,
        room: RoomNotice | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        cluster: resources that Ray offers.
        bus: gets an event for everything that happens.
        run_dir: directory of the run, for its checkpoints.
        resume: checkpoint to continue from; None: a fresh run.
        initial: checkpoint whose network the run began with; None: a new network.
        should_stop: called at least every `POLL_S`; True ends the run after saving.
        check_place: raises RunDirLostError if `run_dir` is no longer the run's directory; called
            before each checkpoint, in the thread that writes it, and at the end.
        waits_for_saving: whether training waits for each checkpoint.
        standby: gets the newest state, for the case that this process is killed; None: none does.
        room: says that the run waits for room on a cluster of several; None: it has its own.
        clock: monotonic seconds.
        """
        self.config = config
        self.bus = bus
        self.stage = Stage.STARTING
        self.progress = Progress.from_json(resume.files[PROGRESS_FILE]) if resume else Progress()
        self._lost_timesteps = self.progress.begin_session()
        self._states = ActorStates(resume.files.get(ACTORS_FILE) if resume else None)
        self._readers = ReaderStates(resume.files.get(READERS_FILE) if resume else None)
        self._resume = resume
        self._initial = initial
        self._should_stop = should_stop
        self._check_place = check_place
        self._standby = standby
        self._room = room
        self._clock = clock
        awake = AwakeClock(clock)
        self._deadlines: Deadlines[Ref] = Deadlines(config.cluster.call_timeout_s, awake)
        self._ray = cluster.connection
        self._watch = ClusterWatch(config, cluster, bus, clock=clock)
        self._fleet = Fleet(
            config,
            num_cpus_per_actor=self._watch.cpus_per_actor,
            next_start=self._next_start,
            clock=awake,
        )
        self._fleet.resize(self._watch.sizes)
        self._learner = LearnerHandle(
            config,
            bus,
            num_cpus=learner_cpus(config, cluster.num_cpus),
            reserve=lambda: learner_placement_group(config, cluster),
            should_stop=self._should_stop_starting,
            clock=awake,
        )
        self._evaluation = EvaluationHandle(
            config, bus, run_dir, self.progress, num_cpus=cluster.num_cpus, clock=awake
        )
        self.pool = PoolHandle(config, bus, run_dir, resume)
        self.saver = RunSaver(
            config.checkpoint,
            bus,
            run_dir,
            self.progress,
            newest_state=self._newest_state,
            check_place=check_place,
            saved=self.pool.prune,
            moved=self.pool.move_to,
            resume=resume,
            waits=waits_for_saving,
        )
        self._rollouts: Admission[Ref, RolloutInPlay, DeliveredRollout] = Admission(
            max_lag=config.effective_max_lag,
            timesteps_per_rollout=config.timesteps_per_rollout,
            is_one_of_each_actor=config.schedule.mode == "lockstep",
        )
        self._updates: list[UpdateUnderWay] = []
        """Updates under way, the oldest first. The learner makes the newest, or has made all."""
        self._last_tick = self._last_update = self._idle_since = clock()
        self._health = RunHealth.resumed(trouble_of(resume) if resume else None)

    def save_after_failure(self) -> None:
        """Saves the newest finished update on the way out of a failure, which it does not hide."""
        self.stage = Stage.SAVING
        self._tick()
        self.saver.save_after_failure()

    def run(self) -> None:
        """Trains until `total_timesteps` or a stop request, then saves.

        However it ends, all actors are gone afterwards and the last finished update is saved;
        only a KeyboardInterrupt and a TakenOverError, which `should_stop` raises, do not wait for
        the saving.

        Raises:
            RefusedStateError: the learner refuses the state of the checkpoint.
            ActorLostError: an actor died too often.
            KeiseiError, RayError: an actor raised what no restart can put right.
        """
        try:
            self._start_learner()
            self.stage = Stage.TRAINING
            try:
                self._train_and_save()
            finally:
                self.stage = Stage.ENDING
            self._fleet.dismiss()
            self._evaluation.finish(self._should_stop)
        except StopRequested:
            logger.info("stopped before the learner was up: nothing to save")
        finally:
            if self._ray.is_there():  # Else their processes end with it.
                for part in (self._fleet, self._learner, self._evaluation):
                    part.dismiss()

    def _train_and_save(self) -> None:
        try:
            # A stop that comes while a dead learner is restarted: its newest update is still here.
            with contextlib.suppress(StopRequested):
                self._train()
            if self._should_stop():
                self.bus.publish(Notice("asked to stop: saving; ask again to leave without"))
            self._check_place()
        except (KeyboardInterrupt, TakenOverError):
            raise  # The second request to stop, or the directory is another's: do not even save.
        except BaseException:
            self.save_after_failure()
            raise
        self.stage = Stage.SAVING
        self._tick()
        try:
            self.saver.save()
        except RunDirLostError:  # In this moment.
            self.saver.save_after_failure()
            raise

    def _train(self) -> None:
        total = self.config.run.total_timesteps
        while self.progress.timestep < total and not self._should_stop():
            self._fleet.start_waiting()
            self._ask_for_rollouts()
            self._start_update()
            for ref in self._wait():
                self._take(ref)
            self._replace_overdue()
            self.saver.take_saved(wait=False)
            if self._standby is not None:
                self._standby.offer(self.progress.timestep, self._newest_state)
            if self._watch.poll():
                self._fleet.resize(self._watch.sizes)
                self._say_what_waits(is_learner_up=True)
            self._evaluation.poll(self.progress, self._learner.published)

    def _newest_state(self) -> RunState:
        """Returns what a checkpoint keeps of the newest finished update."""
        self.pool.forget_former(self._snapshots_in_play)
        return state_of(
            self.config,
            self.progress,
            self._learner.published.state,
            self._learner.digest,
            self.pool.files()
            | self._states.files(self.progress.incarnations)
            | self._readers.files(self.progress.incarnations),
            self._health.trouble,
            self._evaluation.versions_under_way,
        )

    # ---- what the loop starts ----

    def _start_learner(self) -> None:
        """Starts the learner before any actor, so that bad settings are known at once."""
        resume = self._resume
        try:
            info = self._learner.launch(
                self.progress.weights_version,
                resume.files if resume else None,
                self._initial.files[MODEL_FILE] if self._initial else None,
            )
        except StateRefused as error:
            assert resume is not None, "a fresh run has no state to be refused"
            raise RefusedStateError(f"{resume.path}: {error}", resume.timestep) from error
        if resume:
            check_digest(resume, self._learner.digest)
        self.bus.publish(
            Notice(f"learner ready: {info.num_parameters:,} parameters on {info.device}")
        )
        if self._initial and not resume:
            self.bus.publish(
                Notice(f"begins with the network of {self._initial.path} and a new optimizer")
            )
        self.pool.restore()
        if resume:
            self._say_what_is_not_kept(resume)
        self._idle_since = self._clock()

    def _should_stop_starting(self) -> bool:
        """Returns whether to stop; called while the learner starts."""
        self._say_what_waits(is_learner_up=False)
        return self._should_stop()

    def _say_what_waits(self, *, is_learner_up: bool) -> None:
        """Says that the cluster has no room for the learner, or for a single actor."""
        if self._room is None:
            return
        asks = None
        each = self._watch.cpus_per_actor
        if not is_learner_up:
            if self._learner.waits_for_room():
                gpus = learner_gpus(self.config)
                asks = f"the learner asks for 1 CPU{f' and {gpus:g} GPU' if gpus else ''}"
        elif self._fleet.starting and not self._fleet.num_alive and free_cpus() < each:
            number = self._watch.sizes.num_actors
            asks = f"{number} self-play actors ask for {each:g} CPU each"
        self._room.poll(asks)

    def _say_what_is_not_kept(self, resume: Checkpoint) -> None:
        """Drops the states that do not fit this run; new games begin in their place."""
        if ACTORS_FILE not in resume.files:
            self.bus.publish(
                Notice(f"games in play are not kept: {resume.path} has no {ACTORS_FILE}")
            )
        for notice in self._states.drop_unfit(self.config, self.progress, self.pool):
            self.bus.publish(notice)
        for notice in self._readers.drop_unfit(self.config, self.progress):
            self.bus.publish(notice)
        if self._lost_timesteps:
            self.bus.publish(
                Notice(
                    f"{self._lost_timesteps:,} plies that actors had delivered are lost: no update "
                    "had consumed them; they are played again"
                )
            )

    def _next_start(self, actor_id: int) -> ActorStart:
        """Starts an actor with new games, or where the checkpoint's left off."""
        reader = self._readers.take(actor_id)
        if reader is not None:
            return ActorStart(reader.incarnation, (pack_reader(reader),))
        state = self._states.take(actor_id)
        if state is None:
            return ActorStart(self.progress.next_incarnation(actor_id))
        return ActorStart(state.incarnation, (pack_state(state), *self.pool.go_on(state)))

    def _ask_for_rollouts(self) -> None:
        """Asks idle actors for rollouts as far as the admission allows."""
        timesteps_left = self.config.run.total_timesteps - self.progress.timestep
        excluded = self._rollouts.actors_not_to_ask()
        while self._rollouts.may_ask(self._watch.sizes, timesteps_left):
            actor = self._fleet.take_idle(excluded)
            if actor is None:
                return
            newest = self._learner.published
            mix, snapshots = self.pool.next_mix(actor.actor_id, actor.incarnation)
            report, packed = actor.handle.collect.options(num_returns=2).remote(
                newest.weights, mix, *snapshots
            )
            self._rollouts.asked(
                report, RolloutInPlay(actor, newest.version, packed, mix.snapshots)
            )
            self._deadlines.asked(report, "collect")

    def _start_update(self) -> None:
        """Gives the learner its next rollouts if it is idle and they are all here."""
        timestep = self.progress.timestep
        for update in self._updates:
            if update.report is None:
                return
            timestep += update.report.batch_timesteps
        if timestep >= self.config.run.total_timesteps:
            return
        rollouts = self._rollouts.start_update(self._watch.sizes, self._learner.published.version)
        if rollouts:
            waited_s = self._clock() - self._idle_since
            update = self._learner.update(
                timestep, [rollout.packed for rollout in rollouts], waited_s=waited_s
            )
            self._deadlines.asked(update.deadline, "update", size=len(rollouts))
            self._updates.append(update)

    def _awaited(self) -> dict[Ref, Callable[[Ref], None]]:
        """Returns everything that the loop waits for: each reference, and what takes it."""
        awaited: dict[Ref, Callable[[Ref], None]] = {}
        for update in self._updates:
            awaited |= dict.fromkeys(update.missing, self._take_update)
        awaited |= dict.fromkeys(self._rollouts.in_play, self._take_rollout)
        awaited |= dict.fromkeys(self._fleet.starting, self._take_start)
        return awaited

    def _wait(self) -> list[Ref]:
        """Returns the references that are ready, after waiting for one at most `POLL_S`."""
        refs = list(self._awaited())
        if not refs:
            time.sleep(POLL_S)
            return []
        ready, _ = ray.wait(refs, num_returns=1, timeout=POLL_S)
        if ready:
            # All others that are ready come along, so that no kind of event starves another.
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return list(ready)

    # ---- what the loop takes ----

    def _take(self, ref: Ref) -> None:
        """Takes what is ready. A reference that nothing awaits any more is passed over.

        What was ready at the same time and taken before may have put an end to the waiting, as a
        process that is replaced does.
        """
        take = self._awaited().get(ref)
        if take is not None:
            self._ray.check()  # Ray ends a process that reads from a store whose raylet is gone.
            take(ref)

    def _take_start(self, ref: Ref) -> None:
        actor = self._fleet.starting_actor(ref)
        try:
            info: ProcessInfo = ray.get(ref)
        except RayError as error:
            self._replace(actor, error)
            return
        self._fleet.started(ref)
        self.bus.publish(ActorReady(actor.actor_id, actor.incarnation, info.pid, info.node))

    def _take_rollout(self, ref: Ref) -> None:
        played = self._rollouts.take(ref)
        try:
            with self._deadlines.taking(ref):
                report: CollectReport = ray.get(ref)
        except RayError as error:
            self._replace(played.actor, error)
            return
        self._fleet.give_back(played.actor)
        header = report.header
        for member in report.benched:
            self.pool.bench(member, header.actor_id)
        for notice in report.notices:
            self.bus.publish(Notice(notice))
        self.progress.collect(header)
        unconsumed = [rollout.report.header for rollout in self._rollouts.delivered_or_updating()]
        is_old = header.weights_version != played.weights_version
        if is_old or self.progress.is_duplicate(header) or header in unconsumed:
            self._reject(report, "delivered before")
            return
        self._rollouts.deliver(DeliveredRollout(report, played.packed))
        self.bus.publish(
            RolloutArrived(
                header.actor_id,
                header.incarnation,
                header.weights_version,
                header.timesteps,
                report.records,
            )
        )

    def _take_update(self, ref: Ref) -> None:
        """Takes a part of an update: the learner's answer, or a part of its version."""
        update = next(update for update in self._updates if ref in update.missing)
        update.missing.remove(ref)
        try:
            if update.publishing is None:
                self._take_report(update)
            # Parts of a version may be here before those of the version before.
            while self._updates and self._updates[0].is_packed:
                self._take_version(self._updates[0])
        except LEARNER_LOST as error:
            self._relaunch_learner(error)

    def _take_report(self, update: UpdateUnderWay) -> None:
        """Takes the report of an update if it is over; if it failed, its rollouts go back.

        Raises:
            LEARNER_LOST: the learner has died.
        """
        if not self._learner.is_over(update):
            return
        key = update.deadline
        try:
            with self._deadlines.taking(key):
                self._learner.take_report(update)
        except (RayTaskError, RejectedRolloutsError) as error:
            refs = [rollout for share in update.shares for rollout in share]
            self._fail_update(update, rejected_rollouts(error, refs))
            return
        except SeveralLearnersLost as error:
            self._fail_update(update, error.rejected)
            raise
        self._deadlines.asked(update.deadline, "publish")
        self._idle_since = self._clock()

    def _fail_update(self, update: UpdateUnderWay, rejected: Mapping[int, str]) -> None:
        """Ends the newest update, which has failed; its rollouts wait for the next.

        Args:
            update: the update.
            rejected: those that cannot be used, and are gone: index -> cause.
        """
        self._updates.remove(update)
        rollouts = self._rollouts.fail_update()
        for index, cause in rejected.items():
            self._reject(rollouts[index].report, cause)
        self._rollouts.put_back([r for index, r in enumerate(rollouts) if index not in rejected])

    def _take_version(self, update: UpdateUnderWay) -> None:
        """Publishes and records an update whose version is all here.

        Raises:
            LEARNER_LOST: the learner has died, or a part of the version is lost.
        """
        with self._deadlines.taking(update.deadline):
            report = self._learner.take_version(update)
        self._updates.remove(update)
        rollouts = self._rollouts.publish_update()
        self._record(report, [rollout.report for rollout in rollouts], update.waited_s)
        self.pool.add_if_due(
            self.progress.timestep, update.version, self._learner.published.weights
        )
        self.stage = Stage.SAVING
        self.saver.save_if_due()
        self.stage = Stage.TRAINING

    def _record(
        self, report: UpdateReport, collected: list[CollectReport], waited_s: float
    ) -> None:
        """Counts an update's timesteps and games, once, and publishes its events.

        Args:
            report: figures of the update.
            collected: reports of its rollouts.
            waited_s: seconds that the learner was idle before it.
        """
        progress = self.progress
        games = [game for c in collected for game in c.games]
        progress.consume([c.header for c in collected], games)
        self._states.consume(collected)
        self._readers.consume(collected)
        self.pool.count(games)
        undone = report.undone
        progress.finish_update(report.weights_version, is_undone=undone is not None)
        self._tick()
        now = self._clock()
        since_last, self._last_update = now - self._last_update, now
        for game in games:
            self.bus.publish(GameFinished(game, progress.timestep))
        metrics = update_metrics(
            progress,
            report,
            collected,
            since_last_s=since_last,
            waited_s=waited_s,
            actors_alive=self._fleet.num_alive,
        )
        last = collected[-1]
        self.bus.publish(UpdateFinished(metrics, last.sample_sfen, last.sample_last_move or None))
        found = diagnose(progress, report, collected)
        # An update that was undone says nothing about the weights.
        divergence = None if undone else self._health.observe(metrics, found)
        self.bus.publish(UpdateDiagnosed(found, traces(report, collected), divergence))
        if undone:
            self.bus.publish(
                UpdateUndone(
                    progress.updates, undone.cause, report.learning_rate, undone.is_rate_halved
                )
            )
        if report.notice:
            self.bus.publish(Notice(report.notice, "WARNING"))

    def _snapshots_in_play(self) -> set[str]:
        """Returns every snapshot that an actor plays against, or may yet report to play against."""
        in_play = self._states.networks()
        for delivered in self._rollouts.delivered_or_updating():
            if delivered.report.state:
                in_play.update(read_state(delivered.report.state).pairing.networks)
        for played in self._rollouts.in_play.values():
            in_play.update(played.snapshots)
        return in_play

    # ---- faults ----

    def _replace(self, actor: FleetActor, error: BaseException) -> None:
        """Replaces a self-play actor that died or failed; its unfinished rollout is not counted."""
        self._ray.check()
        delivered = (rollout.report for rollout in self._rollouts.delivered_or_updating())
        self._readers.go_on(actor.actor_id, delivered)
        left = self._fleet.replace(actor, error)
        self.progress.restart_actor()
        self.bus.publish(ActorLost(actor.actor_id, actor.incarnation, str(error), left))

    def _relaunch_learner(self, error: Exception) -> None:
        """Replaces a learner that died; the rollouts of its updates wait for the next."""
        for update in self._updates:
            self._deadlines.forget(update.deadline)
        self._updates.clear()
        self._rollouts.put_all_back()
        self._ray.check()
        with self._deadlines.taking_nothing():
            self._learner.relaunch(error)
        self._idle_since = self._clock()

    def _replace_overdue(self) -> None:
        """Replaces actors and learner whose answer is overdue, unless it has come by now."""
        limit_s = self.config.cluster.start_timeout_s
        too_late = TimeoutError(f"no answer within {limit_s:g} s of its start")
        overdue = dict.fromkeys(self._fleet.overdue(), too_late) | self._deadlines.overdue()
        for ref, error in overdue.items():
            late = [update for update in self._updates if update.deadline == ref]
            parts = list(late[0].missing) if late else [ref]
            if not parts or not ray.wait(parts, num_returns=len(parts), timeout=0)[1]:
                continue  # The loop was busy, or a version waits for the one before it.
            if ref in self._rollouts.in_play:
                self._deadlines.forget(ref)
                self._replace(self._rollouts.take(ref).actor, error)
            elif ref in self._fleet.starting:
                self._replace(self._fleet.starting_actor(ref), error)
            else:
                self._relaunch_learner(error)

    def _reject(self, report: CollectReport, cause: str) -> None:
        self.progress.reject_rollout(report.header)
        self.bus.publish(RolloutRejected(report.header.actor_id, cause))

    # ---- time ----

    def _tick(self) -> None:
        """Brings the run's wall time up to now."""
        now = self._clock()
        self.progress.add_wall_time(now - self._last_tick)
        self._last_tick = now
