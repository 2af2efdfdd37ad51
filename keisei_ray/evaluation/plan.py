"""What a background evaluation consists of: which matches, under which names and seeds.

Neither torch nor Ray: the driver plans, the evaluator plays.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from keisei_ray.config.player_names import player_name
from keisei_ray.config.player_spec import SNAPSHOTS
from keisei_ray.config.sections import EvaluationConfig


@dataclass(frozen=True)
class PlannedMatch:
    """One match to be played, and which moment of the run it measures."""

    timestep: int
    run_time_s: float
    weights_version: int
    opponent: str
    """As in the configuration, or the name of an own earlier version."""
    opponent_version: int | None
    """Of an own earlier version; None for anybody else."""
    finishing: bool
    """Whether the player, and an own earlier version as opponent, finish mates."""
    seed: int
    """Of openings and random choices."""

    @property
    def player(self) -> str:
        """Name of who is measured."""
        return player_name(self.weights_version, finishing=self.finishing)


def plan_matches(
    config: EvaluationConfig,
    *,
    run_seed: int,
    timestep: int,
    run_time_s: float,
    weights_version: int,
    earlier_versions: Collection[int],
) -> list[PlannedMatch]:
    """The matches of one evaluation, bare policy before finishing, in the order of opponents.

    Own earlier versions play as the player does: bare against bare, finishing against finishing.
    All matches of an evaluation share a seed and so their openings; no two evaluations do.
    """
    sequence = np.random.SeedSequence(run_seed, spawn_key=(weights_version,))
    seed = int(sequence.generate_state(1)[0])
    plan = []
    for opponent in config.opponents:
        versions = earlier_versions if opponent == SNAPSHOTS else (None,)
        for version in versions:
            for finishing in (False, True) if config.finishing else (False,):
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
