"""Matches of weights as they were published, played beside the training. No Ray here.

An evaluator unpacks the weights that the actors play with, checks that they are what their
buffer says, plays the planned match and returns its score under the names of version and
digest. `actors.EvaluationShell` wraps it; a test calls it.
"""

import time
from collections import Counter
from collections.abc import Sequence

import torch

from keisei_ray.config.schema import Config
from keisei_ray.errors import DamagedBufferError
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, pair_scores, play_match
from keisei_ray.evaluation.plan import PlannedMatch
from keisei_ray.evaluation.rating import score_interval
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import WeightsInfo, digest, load_weights, state_arrays
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import finishing, network_policy
from keisei_ray.rollouts.packed_buffer import BufferLike
from keisei_ray.telemetry.reports import EvaluationResult, MatchScore


class Evaluator:
    """Plays planned matches, one at a time, on one CPU thread."""

    def __init__(self, config: Config) -> None:
        torch.set_num_threads(1)
        self._config = config

    def play(
        self, match: PlannedMatch, weights: BufferLike, opponent_weights: BufferLike | None = None
    ) -> EvaluationResult:
        """Plays a whole match; blocks until its last game is over.

        Args:
            match: who against whom.
            weights: packed, of `match.weights_version`.
            opponent_weights: packed, of `match.opponent_version`; None where that is.

        Raises:
            WireError, CheckpointError: a buffer is damaged, of another version or architecture.
            PlayerError: the opponent cannot be had.
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
        model = build_model(self._config.model, seed=0).eval()
        info = load_weights(model, buffer)
        found = digest(state_arrays(model))
        # Rounded weights are not the learner's to the last bit, and no digest names them.
        if info.version != version or (info.format == "lossless" and found != info.digest):
            raise DamagedBufferError(
                f"weights of {name}: the buffer is of version {info.version}, digest "
                f"{info.digest[:16]}, expected version {version}, digest {found[:16]}."
            )
        policy = network_policy(model, self._config.evaluation.temperature)
        return Player(name, finishing(policy) if match.finishing else policy), info


def match_score(games: Sequence[PlayedGame], *, wall_time_s: float) -> MatchScore:
    """What the games of a whole match come to, for its first player."""
    outcomes = Counter(game.outcome for game in games)
    interval = score_interval(pair_scores(games))
    return MatchScore(
        games=len(games),
        wins=outcomes["win"],
        draws=outcomes["draw"],
        losses=outcomes["loss"],
        truncated=outcomes["truncated"],
        score=_mean([game.score for game in games]),
        score_low=interval.low,
        score_high=interval.high,
        mean_plies=_mean([float(game.plies) for game in games]),
        as_black_score=_mean([game.score for game in games if game.is_black]),
        as_white_score=_mean([game.score for game in games if not game.is_black]),
        wall_time_s=wall_time_s,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
