"""Self-play: plays games and records every ply as a row of a rollout.

`SelfPlay.collect` plays T plies in each of N games with the newest weights that it was given. The
t-th ply of the rollout in lane n becomes row [t, n] of one preallocated `Rollout`, which is then
packed. In some games a pool member plays the other side (`selfplay/pairing.py`). Advantages are not
computed here: the learner does that (`learning/update_batch.py`).

A ply has two halves: the learner's network and the opponents are asked (`_begin_ply`), then the
networks' answers are taken and the games stepped (`_finish_ply`). An actor that has a GPU nearly to
itself plays in two groups, so that the GPU evaluates one while the CPU steps the other. Actors that
share a GPU keep it busy by turns, and it does more in larger batches, so each has one group, as on
a CPU. Nothing that a rollout holds depends on the groups.

This module does not know Ray: an actor wraps it (`distributed/actors.py`), tests and the benchmark
call it.

T: plies of a rollout. N: games side by side, one in each lane. M: games of a group. K: some of
these lanes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import SelfPlayConfig
from keisei_ray.errors import NumericalError
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import load_weights
from keisei_ray.players.acting import ActingNetwork, acting_device, acting_network
from keisei_ray.players.policies import Ints
from keisei_ray.rollouts.actor_state import ActorState, GamesState, pack_state
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.rollouts.packed_buffer import BufferLike, PackedBuffer
from keisei_ray.rollouts.packed_rollout import pack_rollout
from keisei_ray.rollouts.rollout import Rollout, RolloutHeader
from keisei_ray.rollouts.weights_header import WeightsInfo, peek_weights
from keisei_ray.selfplay.opponent_mix import SELF_PLAY_ONLY, OpponentMix
from keisei_ray.selfplay.pairing import AskedNetwork, Pairing
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.vector_games import GameCounter, GameEnd, VectorGames
from keisei_ray.telemetry.reports import CollectReport, CollectStages
from keisei_ray.telemetry.stage_timer import StageTimer

_ACTION_STREAM, _GAME_STREAM, _PAIRING_STREAM = 0, 1, 2
"""Spawn keys that keep an actor's random streams apart; `selfplay/opponent_mix.py` uses 3."""

_GPUS_FOR_TWO_GROUPS = 0.5
"""Part of a GPU from which on an actor plays in two groups: at most one other process shares it."""


@dataclass
class _Group:
    """Games that are evaluated and stepped together, and their ply in progress."""

    first_lane: int
    """The actor's lane that is lane 0 of the group."""
    games: VectorGames
    acting: ActingNetwork
    """The learner's network; the groups' share one set of weights."""
    choices: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """[M] the choices made so far."""
    mates: Ints | None = None
    """[M] index of a mate in one, -1 where there is none; None if they are not looked for."""
    asked_opponents: list[AskedNetwork] = field(default_factory=list)
    learner_lanes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """[K] lanes of the group in which the learner has been asked."""

    @property
    def lanes(self) -> slice:
        """The actor's lanes that are the group's."""
        return slice(self.first_lane, self.first_lane + self.games.num_games)


class SelfPlay:
    """N games in play, their players, and the rollout that their plies fill."""

    def __init__(
        self, config: Config, actor_id: int, incarnation: int, *, num_groups: int | None = None
    ) -> None:
        """Starts N games; sets the number of torch threads of the whole process.

        Args:
            config: with every choice made.
            actor_id: number of the self-play actor.
            incarnation: start number of that actor, from 0.
            num_groups: groups of games; None: by the device and the actor's part of it.

        Raises:
            ConfigError: the device is a GPU and torch sees none.
        """
        prepare_cpu(config.schedule.actor_threads)
        s = config.self_play
        self._config = config
        self._actor_id = actor_id
        self._incarnation = incarnation
        device = acting_device(s.device)
        model = build_model(config.model, seed=config.run.seed, amp=s.amp).eval()
        self._model = model.to(device)
        self._weights: WeightsInfo | None = None
        self._rng = self._stream(_ACTION_STREAM)
        num_groups = min(num_groups or choose_num_groups(s), s.games_per_actor)
        ends = np.linspace(0, s.games_per_actor, num_groups + 1).astype(int).tolist()
        counter = GameCounter()
        self._groups = [
            self._new_group(first, end - first, counter) for first, end in pairwise(ends)
        ]
        self._pairing = Pairing(
            config, s.games_per_actor, lambda index: self._stream(_PAIRING_STREAM, index)
        )
        self._rollout = Rollout.allocate(s.rollout_length, s.games_per_actor)
        self._sequence = 0
        self._num_drawn = 0
        """Numbers drawn from `_rng` so far."""
        self._timer = StageTimer()

    def _new_group(self, first_lane: int, num_games: int, counter: GameCounter) -> _Group:
        """Starts the games of a group."""
        s = self._config.self_play
        games = VectorGames(
            num_games,
            max_plies=s.max_plies,
            random_opening_plies=s.random_opening_plies,
            rng_for_game=lambda index: self._stream(_GAME_STREAM, index),
            sfens=s.start_positions or (STANDARD_SFEN,),
            save_moves=self._config.tracking.save_moves,
            counter=counter,
        )
        acting = acting_network(self._model, num_games)
        return _Group(first_lane, games, acting)

    def set_weights(self, buffer: BufferLike) -> None:
        """Loads the weights to play with from now on; does nothing for those already held.

        Args:
            buffer: packed weights, see `network/weights.py`.

        Raises:
            WireError, CheckpointError: the buffer is damaged or of another architecture.
        """
        if self._weights is None or peek_weights(buffer) != self._weights:
            self._weights = load_weights(self._model, buffer)

    def collect(
        self, mix: OpponentMix = SELF_PLAY_ONLY, snapshots: Sequence[BufferLike] = ()
    ) -> tuple[CollectReport, PackedBuffer]:
        """Plays T plies in each game. The games continue in the next call.

        Args:
            mix: the opponents of games that start in this call.
            snapshots: packed weights of `mix.snapshots`, in their order.

        Returns:
            The report, and the packed rollout.

        Raises:
            WireError, CheckpointError: a snapshot's weights are damaged or of another
                architecture.
            NumericalError: outputs of the network are infinite or not numbers.
        """
        assert self._weights is not None, "set_weights comes before collect"
        started = time.perf_counter()
        self._timer = StageTimer()
        header = self._header(self._weights.version)
        self._pairing.set_mix(mix, snapshots)
        if self._sequence == 0:
            for group in self._groups:
                for lane, index in enumerate(group.games.game_index.tolist()):
                    self._pairing.start_game(group.first_lane + lane, index)
        rollout = self._rollout.with_header(header)
        games: list[FinishedGame] = []
        cuts = _CutPositions()
        for group in self._groups:
            self._begin_ply(rollout, 0, group)
        for t in range(header.T):
            for group in self._groups:
                games.extend(self._finish_ply(rollout, t, group, cuts))
                if t + 1 < header.T:
                    self._begin_ply(rollout, t + 1, group)
        self._timer.end_stage("env_time_s")
        self._bootstrap(rollout, cuts)
        self._timer.end_stage("forward_time_s")
        packed = pack_rollout(rollout, zstd_level=self._config.wire.zstd_level)
        distinct_positions = rollout.distinct_positions()
        self._sequence += 1
        state = pack_state(self.state())
        self._timer.end_stage("pack_time_s")
        return (
            CollectReport(
                header=header,
                games=tuple(games),
                trained_timesteps=int(rollout.is_trained.sum()),
                distinct_positions=distinct_positions,
                raw_bytes=rollout.raw_bytes,
                wire_bytes=packed.nbytes,
                collect_time_s=time.perf_counter() - started,
                sample_sfen=self._groups[0].games.current_sfen(0),
                sample_last_move=self._groups[0].games.last_move_usi(0),
                stages=self._stages(),
                benched=self._pairing.take_benched(),
                state=state,
            ),
            packed,
        )

    def state(self) -> ActorState:
        """Returns all that another process needs to play on from here, for `restore`."""
        states = [group.games.state() for group in self._groups]
        games = tuple(game for state in states for game in state.games)
        return ActorState(
            actor_id=self._actor_id,
            incarnation=self._incarnation,
            sequence=self._sequence,
            num_drawn=self._num_drawn,
            max_plies=self._config.self_play.max_plies,
            games=GamesState(states[0].next_index, games),
            pairing=self._pairing.state(),
        )

    def restore(self, state: ActorState, networks: Sequence[BufferLike] = ()) -> None:
        """Plays on from a state of this actor and incarnation, before the first `collect`.

        With the weights, mixes and settings that the actor would have got, every byte of the
        rollouts is the same.

        Args:
            state: of this incarnation, with the same number of games and the same ply cap.
            networks: packed weights of `state.pairing.networks`, in their order.

        Raises:
            CheckpointError, WireError: the games cannot be replayed, or see `Pairing.restore`.
        """
        assert self._sequence == 0, "restore comes before the first collect"
        for group in self._groups:
            games = state.games.games[group.lanes]
            group.games.restore(GamesState(state.games.next_index, games))
        self._pairing.restore(state.pairing, networks)
        self._sequence = state.sequence
        self._num_drawn = state.num_drawn
        bits = self._rng.bit_generator
        assert isinstance(bits, np.random.PCG64), "one step for each number in [0, 1)"
        bits.advance(state.num_drawn)

    def _header(self, weights_version: int) -> RolloutHeader:
        """Header of the rollout that is to be filled next."""
        return RolloutHeader(
            actor_id=self._actor_id,
            incarnation=self._incarnation,
            sequence=self._sequence,
            weights_version=weights_version,
            T=self._config.self_play.rollout_length,
            N=self._config.self_play.games_per_actor,
        )

    def _begin_ply(self, rollout: Rollout, t: int, group: _Group) -> None:
        """Records the positions of a group in time slice t, and asks for its next ply.

        Where the learner is to move, `is_trained` is set; its network's answers are recorded by
        `_finish_ply`, elsewhere zeros here. All networks are asked before any is waited for: while
        other processes use the GPU too, each wait costs a turn of theirs.
        """
        games, lanes = group.games, group.lanes
        rollout.boards[t, lanes] = games.boards
        rollout.hands[t, lanes] = games.hands
        rollout.scalars[t, lanes] = games.scalars
        rollout.legal_bits[t, lanes] = games.legal_bits()
        uniforms = self._rng.random(games.num_games)
        self._num_drawn += games.num_games
        mates = None
        if self._config.self_play.finish_mates:
            mates = games.mate_in_one()
        self._timer.end_stage("env_time_s")
        choices, opponents = self._pairing.ask_opponents(games, uniforms, group.first_lane)
        self._timer.end_stage("opponents_time_s")
        asked = self._pairing.learner_lanes(games.turns, group.first_lane)
        for array in (rollout.values, rollout.draw_probs, rollout.behavior_log_probs):
            array[t, lanes] = 0
        is_trained = np.zeros(games.num_games, np.bool_)
        is_trained[asked] = True
        rollout.is_trained[t, lanes] = is_trained
        rollout.is_forced[t, lanes] = False if mates is None else is_trained & (mates >= 0)
        group.choices, group.mates = choices, mates
        group.asked_opponents, group.learner_lanes = opponents, asked
        if len(asked):
            forced = None if mates is None else mates[asked]
            group.acting.begin(games, asked, uniforms[asked], forced)
            self._timer.end_stage("forward_time_s")

    def _finish_ply(
        self, rollout: Rollout, t: int, group: _Group, cuts: "_CutPositions"
    ) -> list[FinishedGame]:
        """Plays the ply that `_begin_ply` asked for, and records it in time slice t.

        Returns:
            The games that ended, in order of lanes. Each has been replaced by a new one.
        """
        games, lanes = group.games, group.lanes
        self._timer.end_stage("env_time_s")
        self._take_opponents_moves(group)
        if len(group.learner_lanes):
            self._take_answers(rollout, t, group)
        # A forfeit (negative) is recorded as the first legal move; the row is not trained on.
        moves = games.legal_offsets[:-1] + np.maximum(group.choices, 0)
        rollout.actions[t, lanes] = games.legal_labels[moves]
        result = games.step(group.choices)
        rollout.rewards[t, lanes] = result.rewards
        rollout.terminated[t, lanes] = result.terminated
        rollout.truncated[t, lanes] = result.truncated
        if len(result.final_lanes):
            cuts.add(
                t,
                group.first_lane + result.final_lanes,
                (result.final_boards, result.final_hands, result.final_scalars),
            )
        finished = [
            self._finished_game(end, group.first_lane + end.lane) for end in result.finished
        ]
        for end in result.finished:
            index = int(games.game_index[end.lane])
            self._pairing.start_game(group.first_lane + end.lane, index)
        return finished

    def _take_opponents_moves(self, group: _Group) -> None:
        """Waits for the opponents' networks; makes their moves, and mates in one, choices."""
        for lanes, acting in group.asked_opponents:
            group.choices[lanes] = acting.finish().choices
        if group.mates is not None:
            # Opponents play mates in one as well; the learner's lanes are overwritten later.
            group.choices = np.where(group.mates >= 0, group.mates, group.choices)
        self._timer.end_stage("opponents_time_s")

    def _take_answers(self, rollout: Rollout, t: int, group: _Group) -> None:
        """Waits for the learner's network; makes its answers choices, and records them.

        Raises:
            NumericalError: outputs of the network are infinite or not numbers.
        """
        is_finite = group.acting.wait()
        self._timer.end_stage("forward_time_s")
        if not is_finite:
            raise self._not_finite()
        chosen = group.acting.finish()
        asked = group.first_lane + group.learner_lanes
        group.choices[group.learner_lanes] = chosen.choices
        rollout.values[t, asked] = chosen.values
        rollout.draw_probs[t, asked] = chosen.draw_probs
        rollout.behavior_log_probs[t, asked] = chosen.log_probs
        self._timer.end_stage("sample_time_s")

    def _not_finite(self) -> NumericalError:
        """Makes the error of weights with which no game can be played."""
        version = self._weights.version if self._weights else 0
        return NumericalError(
            f"the network's outputs are not finite in self-play with weights version {version}. "
            "Resume from an older checkpoint with a lower learning rate; if they travel in half "
            "precision, with lossless weights."
        )

    def _bootstrap(self, rollout: Rollout, cuts: "_CutPositions") -> None:
        """Records the value of every position at which a trajectory is cut.

        Seen by the side to move there. Adds the last positions of the rollout to `cuts`.
        """
        last = rollout.header.T - 1
        alive = np.flatnonzero(~(rollout.terminated[last] | rollout.truncated[last]))
        for group in self._groups:
            games = group.games
            lanes = alive[(alive >= group.lanes.start) & (alive < group.lanes.stop)]
            own = lanes - group.first_lane
            if len(lanes):
                cuts.add(last, lanes, (games.boards[own], games.hands[own], games.scalars[own]))
        rollout.bootstrap_values[:] = 0
        rollout.bootstrap_draw_probs[:] = 0
        if cuts.times:
            positions = (np.concatenate(parts) for parts in zip(*cuts.positions, strict=True))
            values, draw_probs = self._groups[0].acting.outcomes(*positions)
            where = np.concatenate(cuts.times), np.concatenate(cuts.lanes)
            rollout.bootstrap_values[where] = values
            rollout.bootstrap_draw_probs[where] = draw_probs

    def _finished_game(self, end: GameEnd, lane: int) -> FinishedGame:
        """Adds to a game's end the identity by which it is counted once in the whole run.

        Args:
            end: with the lane in its group.
            lane: the actor's lane.
        """
        assert self._weights is not None
        opponent, learner_color = self._pairing.opponent_of(lane)
        return FinishedGame(
            game_id=f"{self._actor_id}-{self._incarnation}-{end.index}",
            actor_id=self._actor_id,
            incarnation=self._incarnation,
            index=end.index,
            weights_version=self._weights.version,
            result=end.result,
            reason=end.reason,
            plies=end.plies,
            opening_plies=end.opening_plies,
            moves=end.moves,
            start_sfen="" if end.sfen == STANDARD_SFEN else end.sfen,
            opponent=opponent,
            learner_color=learner_color,
        )

    def _stages(self) -> CollectStages:
        """Times of this collect by stage, in seconds."""
        seconds = self._timer.seconds
        return CollectStages(
            env_time_s=seconds["env_time_s"],
            opponents_time_s=seconds["opponents_time_s"],
            forward_time_s=seconds["forward_time_s"],
            sample_time_s=seconds["sample_time_s"],
            pack_time_s=seconds["pack_time_s"],
        )

    def _stream(self, *key: int) -> np.random.Generator:
        """The random stream of (run seed, actor, incarnation, purpose[, game])."""
        sequence = np.random.SeedSequence(
            self._config.run.seed, spawn_key=(self._actor_id, self._incarnation, *key)
        )
        return np.random.Generator(np.random.PCG64(sequence))


def choose_num_groups(config: SelfPlayConfig) -> int:
    """Returns in how many groups an actor plays its games; why is in the module's docstring.

    Args:
        config: with every choice made. If `num_gpus` is None, the actor has a GPU to itself.
    """
    is_alone = config.num_gpus is None or config.num_gpus >= _GPUS_FOR_TWO_GROUPS
    return 2 if config.device == "cuda" and is_alone else 1


class _CutPositions:
    """Positions at which trajectories are cut, gathered over a rollout for one forward pass."""

    def __init__(self) -> None:
        self.times: list[npt.NDArray[np.intp]] = []
        self.lanes: list[npt.NDArray[np.intp]] = []
        self.positions: list[tuple[npt.NDArray[np.uint8], ...]] = []

    def add(
        self, t: int, lanes: npt.NDArray[np.intp], position: tuple[npt.NDArray[np.uint8], ...]
    ) -> None:
        """Adds the positions after ply t in these lanes; copies them, since the games continue."""
        self.times.append(np.full(len(lanes), t))
        self.lanes.append(np.array(lanes))
        self.positions.append(tuple(np.array(part) for part in position))
