"""Game records as rollouts: stands where `SelfPlay` stands, and plays nothing.

A rollout of pretraining has T x N positions of games of others in random order, instead of T plies
of N games. Each row is a trajectory of its own: cut after the ply, with the targets of value and
draw in place of the bootstrap values. With gamma = 1 the lambda-return of such a row is its target:

    value_target = 0 - gamma * bootstrap_value,            bootstrap_value = -value
    draw_target  = 1 - gamma * (1 - bootstrap_draw_prob),  bootstrap_draw_prob = draw

The policy chose none of the moves, so every row `is_forced`: its policy loss is the cross-entropy
with the recorded move.

This module does not know Ray. T: plies of a rollout. N: games side by side.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from keisei_ray.config.schema import Config
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import load_weights
from keisei_ray.pretraining.held_out import measure, told
from keisei_ray.records.left_out import Tally
from keisei_ray.records.mirror import some_mirrored
from keisei_ray.records.positions import Positions
from keisei_ray.records.stream import Part, held_out_positions, training_positions
from keisei_ray.rollouts.packed_buffer import BufferLike, PackedBuffer
from keisei_ray.rollouts.packed_rollout import pack_rollout
from keisei_ray.rollouts.reader_state import Place, ReaderState, pack_reader
from keisei_ray.rollouts.rollout import Rollout, RolloutHeader
from keisei_ray.rollouts.weights_header import peek_weights
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.reports import CollectReport, CollectStages, HeldOutFigures
from keisei_ray.telemetry.stage_timer import StageTimer

_MIRRORING: Final = 3
"""First number of the seed by which positions are mirrored; `records.stream` has 0 to 2."""


class RecordPlay:
    """A reader of records that fills rollouts; reader 0 also measures on held-out games."""

    def __init__(self, config: Config, actor_id: int, incarnation: int) -> None:
        """Reads nothing yet.

        Args:
            config: with every choice made.
            actor_id: number of the reader among `self_play.num_actors`.
            incarnation: start number of the reader; each reads in another order.
        """
        prepare_cpu(config.schedule.actor_threads)
        self._config = config
        self._ids = (actor_id, incarnation)
        play, pretrain = config.self_play, config.pretrain
        assert play.num_actors != "auto", "refused by checks.check_pretrain"
        self._num_readers = config.at_most_max_actors(play.num_actors)
        self._rollout = Rollout.allocate(play.rollout_length, play.games_per_actor)
        self._sequence = 0
        self._weights: BufferLike | None = None
        self._version = 0
        self._notices: list[str] = []
        self._stream = self._parts(None)
        self._due = PeriodicTrigger(pretrain.held_out_interval_timesteps)
        self._held_out: Positions | None = None

    def set_weights(self, buffer: BufferLike) -> None:
        """Takes the weights that the next measurement is of."""
        self._weights, self._version = buffer, peek_weights(buffer).version

    def restore(self, state: ReaderState) -> None:
        """Reads on from a state of the same incarnation; with the next `collect`."""
        self._sequence = state.sequence
        measured_until = max(0, state.sequence - 1) * self._timesteps_of_a_turn
        self._due = PeriodicTrigger(self._due.every, last=measured_until)
        self._stream = self._parts(state.place)

    def collect(
        self, mix: object = None, snapshots: Sequence[BufferLike] = ()
    ) -> tuple[CollectReport, PackedBuffer]:
        """Reads T x N positions.

        Args:
            mix: opponents in self-play; not looked at.
            snapshots: not looked at.

        Returns:
            The report, and the packed rollout.

        Raises:
            RecordsError: the files hold nothing to learn from.
        """
        started = time.perf_counter()
        timer = StageTimer()
        self._notices = []
        part = next(self._stream)
        timer.end_stage("env_time_s")
        header = RolloutHeader(
            *self._ids,
            sequence=self._sequence,
            weights_version=self._version,
            T=self._rollout.header.T,
            N=self._rollout.header.N,
        )
        rollout = self._rollout.with_header(header)
        fill(rollout, self._as_learned(part.positions))
        packed = pack_rollout(rollout, zstd_level=self._config.wire.zstd_level)
        distinct_positions = rollout.distinct_positions()
        timer.end_stage("pack_time_s")
        figures = self._measure_if_due(part)
        timer.end_stage("forward_time_s")
        self._sequence += 1
        state = ReaderState(*self._ids, self._sequence, self._num_readers, part.after)
        return (
            CollectReport(
                header=header,
                games=(),
                trained_timesteps=header.timesteps,
                distinct_positions=distinct_positions,
                raw_bytes=rollout.raw_bytes,
                wire_bytes=packed.nbytes,
                collect_time_s=time.perf_counter() - started,
                sample_sfen=STANDARD_SFEN,
                sample_last_move="",
                stages=CollectStages(
                    env_time_s=timer.seconds["env_time_s"],
                    forward_time_s=timer.seconds["forward_time_s"],
                    pack_time_s=timer.seconds["pack_time_s"],
                ),
                reader_state=pack_reader(state),
                held_out=figures,
                records=self._counts(_extent(part), part.after.number, part.tally),
                notices=tuple(self._notices),
            ),
            packed,
        )

    def _parts(self, place: Place | None) -> Iterator[Part]:
        """The stream from a place; None: from its beginning."""
        actor_id, incarnation = self._ids
        return training_positions(
            self._config.pretrain,
            rows=self._config.timesteps_per_rollout,
            seed=[self._config.run.seed, incarnation],
            reader=actor_id,
            num_readers=self._num_readers,
            place=place,
            ended=lambda number, tally: self._notices.append(self._counts("read", number, tally)),
            changed=lambda: self._notices.append(
                f"the files or the settings of pretrain are not those of the checkpoint: reader "
                f"{actor_id} begins the next pass, and the held-out games may be others"
            ),
        )

    def _as_learned(self, positions: Positions) -> Positions:
        """Mirrors half of the positions, if that is asked for; the same ones after a resume."""
        if not self._config.pretrain.mirror:
            return positions
        seed = [_MIRRORING, self._config.run.seed, *self._ids, self._sequence]
        return some_mirrored(positions, np.random.default_rng(seed))

    def _counts(self, what: str, number: int, tally: Tally) -> str:
        reader = f", reader {self._ids[0]}" if self._num_readers > 1 else ""
        return f"records {what}, pass {number}{reader}: {'; '.join(tally.lines())}"

    @property
    def _timesteps_of_a_turn(self) -> int:
        """Timesteps of one rollout of every reader."""
        return self._config.timesteps_per_rollout * self._num_readers

    def _measure_if_due(self, part: Part) -> HeldOutFigures | None:
        """Measures the newest weights on the held-out games, if that is due."""
        is_due = self._due.is_due(self._sequence * self._timesteps_of_a_turn) or self._sequence == 0
        if self._ids[0] != 0 or not is_due or not self._config.pretrain.held_out:
            return None
        if self._held_out is None:
            self._held_out = held_out_positions(self._config.pretrain, Tally())
            if self._held_out is None:
                if self._sequence == 0:
                    self._notices.append("no game is held out: there are too few")
                return None
        assert self._weights is not None, "set_weights comes before collect"
        model = build_model(self._config.model, seed=0).eval()
        load_weights(model, self._weights)
        figures = measure(model, self._held_out)
        self._notices.append(f"weights version {self._version}: {told(figures)}")
        if self._sequence:
            self._notices.append(self._counts(_extent(part), part.after.number, part.tally))
        return figures


def _extent(part: Part) -> str:
    """Says whether the counts are of a whole pass."""
    return "read" if part.is_whole else "so far"


def fill(rollout: Rollout, positions: Positions) -> None:
    """Writes T x N positions into the rows of a rollout, see the top of this module."""
    for name in ("boards", "hands", "scalars", "legal_bits", "actions"):
        array = getattr(rollout, name)
        array[:] = getattr(positions, name).reshape(array.shape)
    shape = rollout.actions.shape
    rollout.truncated[:] = rollout.is_trained[:] = rollout.is_forced[:] = True
    rollout.bootstrap_values[:] = -positions.values.reshape(shape)
    rollout.bootstrap_draw_probs[:] = positions.draws.reshape(shape).astype(np.float16)
