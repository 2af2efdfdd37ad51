"""The matches of a background evaluation: who plays whom, under which names and seeds.

The driver plans them and the evaluator plays them. Needs neither torch nor Ray.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from keisei_ray.config.player_names import player_name
from keisei_ray.config.player_spec import SNAPSHOTS
from keisei_ray.config.sections import EvaluationConfig

INFORMATIVE: Final = (0.2, 0.8)
"""Scores between which a match says much about the difference in strength."""


@dataclass(frozen=True)
class PlannedMatch:
    """One match to be played, and the moment of the run that it measures."""

    timestep: int
    """Timestep of the run when the evaluation was due."""
    run_time_s: float
    """Seconds of the run at that moment."""
    weights_version: int
    """Version of the weights that are measured."""
    opponent: str
    """Opponent as in the configuration, or the name of an earlier version of the run."""
    opponent_version: int | None
    """Version of the opponent's weights; None unless it is an earlier version of the run."""
    finishing: bool
    """Whether the player finishes mates, and so does an earlier version as its opponent."""
    seed: int
    """Seed of openings and random choices."""

    @property
    def player(self) -> str:
        """Name of the player that is measured."""
        return player_name(self.weights_version, finishing=self.finishing)


def plan_matches(
    config: EvaluationConfig,
    *,
    run_seed: int,
    timestep: int,
    run_time_s: float,
    weights_version: int,
    earlier_versions: Collection[int],
    scores: Mapping[tuple[str, bool], float],
) -> list[PlannedMatch]:
    """Returns the matches of one evaluation, in the order of opponents, bare before finishing.

    Earlier versions play as the player does: bare against bare, finishing against finishing. All
    matches of an evaluation share a seed and therefore their openings; two evaluations do not.
    With `evaluation.adapt_opponents`, only the opponents of `informative` are met.

    Args:
        config: the section of the run's configuration.
        run_seed: seed of the run.
        timestep: see `PlannedMatch`, as for the next two.
        run_time_s: see `PlannedMatch`.
        weights_version: see `PlannedMatch`.
        earlier_versions: versions that stand for the opponent `snapshots`.
        scores: newest score of the run's weights by (opponent, whether finishing).
    """
    kinds = (False, True) if config.finishing else (False,)
    met = {kind: set(config.opponents) for kind in kinds}
    if config.adapt_opponents:
        fixed = [opponent for opponent in config.opponents if opponent != SNAPSHOTS]
        for kind in kinds:
            newest = {name: score for (name, finishes), score in scores.items() if finishes == kind}
            met[kind] = {SNAPSHOTS, *informative(fixed, newest)}
    sequence = np.random.SeedSequence(run_seed, spawn_key=(weights_version,))
    seed = int(sequence.generate_state(1)[0])
    plan = []
    for opponent in config.opponents:
        versions = earlier_versions if opponent == SNAPSHOTS else (None,)
        for version in versions:
            for finishing in kinds:
                if opponent not in met[finishing]:
                    continue
                name = opponent if version is None else player_name(version, finishing=finishing)
                plan.append(
                    PlannedMatch(
                        timestep=timestep,
                        run_time_s=run_time_s,
                        weights_version=weights_version,
                        opponent=name,
                        opponent_version=version,
                        finishing=finishing,
                        seed=seed,
                    )
                )
    return plan


def informative(opponents: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Returns the opponents whose next match says something, in their order.

    They are those that were not met yet, those against whom the newest score lies within
    `INFORMATIVE`, and the one just too strong for that, so that it is noticed when the player comes
    near it. Where none lies within, the one just too weak as well, should the player get worse.

    Args:
        opponents: names, from weak to strong where scores are equal.
        scores: newest score against each opponent that was met.
    """
    low, high = INFORMATIVE
    met = [name for name in opponents if name in scores]
    too_weak = [name for name in met if scores[name] > high]
    too_strong = [name for name in met if scores[name] < low]
    left_out = {*too_weak, *too_strong}
    if too_strong:
        left_out.remove(max(too_strong, key=lambda name: scores[name]))
    if too_weak and len(too_weak) + len(too_strong) == len(met):
        left_out.remove(min(reversed(too_weak), key=lambda name: scores[name]))
    return [name for name in opponents if name not in left_out]
