"""A USI engine in the opponent pool of a real run: it plays, it may hang, it ends with the run."""

import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.events import ActorLost, Notice
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


def test_engines_that_fail_are_benched_once_and_the_run_goes_on_also_when_resumed(
    cluster: Cluster, tmp_path: Path
) -> None:
    """One stops in its first game and never answers, one does not exist. Another one hangs at its
    start in the background evaluation, which loses its matches and nothing else.
    """
    hung = fake_spec(tmp_path, go="kill -STOP $$", query="processes=2&timeout-s=1")
    missing = "usi:/no/such/engine"
    (tmp_path / "mute").mkdir()
    mute = fake_spec(tmp_path / "mute", usi="sleep 1000", query="timeout-s=1")
    config = overlap_config(
        run={"total_timesteps": 6 * 64},
        self_play={"max_plies": 16},
        pool={"share": 1.0, "members": (hung, missing), "snapshot_interval_timesteps": None},
    )
    evaluation = config.evaluation.model_copy(
        update={"interval_timesteps": 128, "opponents": (mute,), "finish_timeout_s": 120.0}
    )
    first = train(config.model_copy(update={"evaluation": evaluation}), cluster, tmp_path / "run")
    (left_out,) = [n.message for n in first.of(Notice) if "is left out" in n.message]
    assert f"against {mute} is left out, and so will all others against it: Engine" in left_out
    assert "gave no usiok in time" in left_out
    more = config.model_copy(
        update={"run": config.run.model_copy(update={"total_timesteps": 12 * 64})}
    )
    assert first.driver.saver.last_checkpoint is not None
    saved = checkpoint.load(first.driver.saver.last_checkpoint)
    again = train(more, cluster, tmp_path / "run", resume=saved)
    for run in (first, again):
        warnings = [notice for notice in run.of(Notice) if "benched" in notice.message]
        assert {notice.level for notice in warnings} == {"WARNING"}
        texts = sorted(notice.message for notice in warnings)
        assert len(texts) == 2
        assert texts[0].startswith(f"{missing} is benched for the rest of this session (actor ")
        assert "is not found: expected a program on PATH" in texts[0]
        assert texts[1].startswith(f"{hung} is benched for the rest of this session (actor ")
        assert "gave no bestmove in time" in texts[1]
        assert warnings[-1].message.endswith("no opponent is left, all games are self-play")
        assert not run.of(ActorLost)
    assert again.driver.progress.updates == 12
    games = again.lines("games.jsonl")
    assert len(games) > 12
    assert {game["opponent"] for game in games} == {""}
    assert all_end(str(tmp_path))
