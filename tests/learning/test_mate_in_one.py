"""A small task is learned through the whole Ray path: mate in one from fixed positions."""

from pathlib import Path

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from tests.helpers.training_run import overlap_config, train

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_UPDATES, LAST_UPDATES = 24, 5
THRESHOLD = 0.95
"""Share of games mated in the last updates. Measured over seeds 1 to 10, updates 20 to 24: all
(half is passed between updates 9 and 15), so mean - 4 sigma = 1; the rest is left to timing, which
the overlap schedule does not reproduce. With an entropy bonus of 0.003 instead of 0.03 the policy
of seed 3 narrowed before it had met enough mates, and found none."""


def mates() -> tuple[str, ...]:
    """Seven positions for each colour: gold in hand, and only its drop before the king mates.

    About one legal move in ninety.
    """
    positions = []
    for left in range(1, 8):
        right = 8 - left

        def row(piece: str, left: int = left, right: int = right) -> str:
            return f"{left}{piece}{right}"

        positions.append(f"{row('k')}/9/{row('P')}/9/9/9/9/9/4K4 b G 1")
        positions.append(f"4k4/9/9/9/9/9/{row('p')}/9/{row('K')} w g 1")
    return tuple(positions)


def mate_config(seed: int) -> Config:
    """Updates of 512 plies, with a mate to find at every other ply at most."""
    return overlap_config(
        run={"seed": seed, "total_timesteps": NUM_UPDATES * 512},
        self_play={
            "num_actors": 2,
            "games_per_actor": 32,
            "rollout_length": 8,
            "max_plies": 2,
            "random_opening_plies": 0,
            "finish_mates": False,
            "start_positions": mates(),
        },
        learner={
            "device": "cpu",
            "amp": "off",
            "num_threads": 1,
            "learning_rate": 0.003,
            "lr_schedule": "constant",
            "ent_coef": 0.03,
            "num_epochs": 2,
            "num_minibatches": 4,
            "target_kl": None,
        },
    )


def share_of_mates(seed: int, cluster: Cluster, run_dir: Path) -> list[float]:
    """Share of the games that ended in mate, by update."""
    run = train(mate_config(seed), cluster, run_dir)
    games = run.lines("games.jsonl")
    shares = []
    for record in run.lines("metrics.jsonl"):
        ends = [
            game["reason"] == "mate" for game in games if game["timestep"] == record["timestep"]
        ]
        shares.append(sum(ends) / len(ends))
    return shares


def test_mate_in_one_is_learned(cluster: Cluster, tmp_path: Path) -> None:
    shares = share_of_mates(1, cluster, tmp_path / "run")
    assert len(shares) == NUM_UPDATES
    assert shares[0] < 0.1  # Nothing is known of it at first.
    assert sum(shares[-LAST_UPDATES:]) / LAST_UPDATES >= THRESHOLD
