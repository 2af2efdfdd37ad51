"""A USI engine in the opponent pool of a real run: it plays, it may die, it leaves with the run."""

import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import PlayerError
from tests.helpers.engines import RULE_ENGINE, fake_spec, rule_spec
from tests.helpers.training_run import overlap_config, train

pytestmark = pytest.mark.ray


def engine_config(spec: str, *, updates: int) -> Config:
    """One actor, every game against the engine."""
    return overlap_config(
        run={"total_timesteps": updates * 64},
        self_play={"num_actors": 1, "max_plies": 16},
        pool={"share": 1.0, "members": (spec,), "snapshot_interval_timesteps": None},
    )


def all_end(command: str) -> bool:
    """Whether every process with this in its command line ends within ten seconds.

    An engine reads of its actor's end when that has been killed.
    """
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "-f", command], capture_output=True, check=False).stdout:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_an_engine_plays_every_other_ply_and_ends_with_the_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    program = Path(shutil.copy(RULE_ENGINE, tmp_path))
    spec = rule_spec("processes=1", program)
    run = train(engine_config(spec, updates=4), cluster, tmp_path / "run")
    games = run.lines("games.jsonl")
    assert len(games) > 4
    assert {game["opponent"] for game in games} == {spec}
    assert {game["learner_color"] for game in games} == {"black", "white"}
    assert Counter(game["reason"] for game in games).keys() <= {"mate", "max_plies", "repetition"}
    trained = [line["trained_timesteps"] for line in run.lines("diagnostics.jsonl")]
    assert len(trained) == 4
    assert all(24 <= rows <= 40 for rows in trained)
    assert all_end(str(program))


def test_an_engine_that_cannot_be_kept_alive_ends_the_run_and_says_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    config = engine_config(fake_spec(tmp_path, go="exit"), updates=1000)
    run = train(config, cluster, tmp_path / "run", fails_with=(PlayerError,))
    assert "had to be started again more than 5 times" in str(run.error)
    assert all_end(str(tmp_path / "engine.sh"))
