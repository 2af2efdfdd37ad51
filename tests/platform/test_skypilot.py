"""SkyPilot's own parser takes `cluster/skypilot.yaml`; nothing is rented."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.copied_commands import CLUSTER
from tests.helpers.program import environment

SKY = shutil.which("sky")
pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(SKY is None, reason="SkyPilot is not on PATH"),
]

PARSE = """
import json, sys
from sky.utils import dag_utils
group = dag_utils.load_job_group_from_yaml(
    sys.argv[1], secrets_overrides=[("RAY_AUTH_TOKEN", "secret")]
)
assert group.is_job_group()
tasks = [(t.name, t.num_nodes, [repr(r) for r in t.resources]) for t in group.tasks]
print(json.dumps([group.primary_tasks, tasks]))
"""


def test_the_job_group_is_what_skypilot_reads(tmp_path: Path) -> None:
    assert SKY is not None
    done = subprocess.run(
        [str(Path(SKY).parent / "python"), "-c", PARSE, str(CLUSTER / "skypilot.yaml")],
        env=environment(HOME=str(tmp_path)),
        cwd=CLUSTER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    primary, tasks = json.loads(done.stdout.splitlines()[-1])
    assert primary == ["learner"]
    (learner, one, [gpu]), (players, several, [cpus]) = tasks
    assert (learner, one, players, several) == ("learner", 1, "players", 3)
    assert "L4" in gpu
    assert "L4" not in cpus
    assert "Spot" in cpus
