"""Evaluator: plays the matches of a background evaluation with published weights. No Ray here.

It unpacks the same packed weights that the self-play actors get, checks that they are of the
version that is to be measured, plays the planned match and returns its score with version and
digest of the weights.
`distributed/actors.py` wraps it in a Ray actor.
"""

import time

from keisei_ray.config.schema import Config
from keisei_ray.errors import DamagedBufferError
from keisei_ray.evaluation.matches import MatchSettings, match_score, play_match
from keisei_ray.evaluation.plan import PlannedMatch
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import load_weights
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import finishing, network_policy
from keisei_ray.rollouts.packed_buffer import BufferLike
from keisei_ray.rollouts.weights_header import WeightsInfo
from keisei_ray.telemetry.reports import EvaluationResult


class Evaluator:
    """Plays planned matches, one at a time, on one CPU thread."""

    def __init__(self, config: Config) -> None:
        prepare_cpu(1)
        self._config = config

    def play(
        self, match: PlannedMatch, weights: BufferLike, opponent_weights: BufferLike | None = None
    ) -> EvaluationResult:
        """Plays a whole match; blocks until its last game is over.

        Args:
            match: which player against which opponent, and the seed.
            weights: packed weights of `match.weights_version`.
            opponent_weights: packed weights of `match.opponent_version`; None if that is None.

        Raises:
            WireError, CheckpointError: a buffer is damaged, of another version or architecture.
            PlayerError: the opponent cannot be started.
        """
        s = self._config.evaluation
        player, info = self._network_player(match.player, match.weights_version, weights, match)
        if match.opponent_version is None:
            opponent = open_player(match.opponent, temperature=s.temperature)
        else:
            assert opponent_weights is not None, match
            opponent, _ = self._network_player(
                match.opponent, match.opponent_version, opponent_weights, match
            )
        settings = MatchSettings(s.num_games, match.seed, max_plies=s.max_plies)
        with opponent:
            started = time.perf_counter()
            games = list(play_match((player, opponent), settings))
        return EvaluationResult(
            timestep=match.timestep,
            weights_version=info.version,
            weights_digest=info.digest,
            player=match.player,
            opponent=match.opponent,
            finishing=match.finishing,
            match=match_score(games, wall_time_s=time.perf_counter() - started),
            run_time_s=match.run_time_s,
        )

    def _network_player(
        self, name: str, version: int, buffer: BufferLike, match: PlannedMatch
    ) -> tuple[Player, WeightsInfo]:
        """Returns packed weights as a player, and what the buffer says about them."""
        model = build_model(self._config.model, seed=0).eval()
        info = load_weights(model, buffer)
        if info.version != version:
            raise DamagedBufferError(
                f"weights of {name}: the buffer is of version {info.version}, expected {version}."
            )
        policy = network_policy(model, self._config.evaluation.temperature)
        return Player(name, finishing(policy) if match.finishing else policy), info
