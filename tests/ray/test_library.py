"""The library in a process of its own: what importing it loads, and a run that it trains."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keisei_ray.distributed.cluster import Cluster
from tests.helpers.program import DEBUG_CONFIG, PATIENCE_S, ROOT, environment, joining

pytestmark = pytest.mark.ray

PROGRAM = f"""
import json, sys
import keisei_ray

loaded = [name for name in ("torch", "ray", "numpy", "pydantic") if name in sys.modules]
before = sorted(set(keisei_ray.__all__) - set(dir(keisei_ray)))
outcome = keisei_ray.train({DEBUG_CONFIG!r})
run = keisei_ray.read_run(outcome.run_dir)
player = keisei_ray.load(outcome.run_dir)
print(json.dumps([loaded, before, outcome.reason, outcome.timestep, run.metrics["timestep"][-1],
                  player.checkpoint == str(outcome.checkpoint), player.move(simulations=8)]))
"""


def test_importing_loads_nothing_and_training_gives_a_run_to_read_and_to_play(
    cluster: Cluster, tmp_path: Path
) -> None:
    (_, address), token = joining(cluster)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment(
            PYTHONPATH=str(ROOT),
            KEISEI_RUN__TOTAL_TIMESTEPS="300",
            KEISEI_TRACKING__VIEW="none",
            KEISEI_SELF_PLAY__NUM_ACTORS="1",
            KEISEI_EVALUATION__INTERVAL_TIMESTEPS="null",
            KEISEI_CLUSTER__ADDRESS=address,
            **token,
        ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded, missing, reason, timestep, newest, is_newest, move = json.loads(
        done.stdout.splitlines()[-1]
    )
    assert loaded == missing == []
    assert (reason, is_newest) == ("done", True)
    assert timestep == newest >= 300
    assert len(move) >= 4
