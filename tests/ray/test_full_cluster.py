"""A sweep on a cluster whose CPUs are all held by another driver."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from keisei_ray.distributed.cluster import Cluster
from tests.helpers.program import start_program
from tests.helpers.sweeps import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.long]


class Server:
    """Actor of another program, which holds CPUs of the cluster."""

    def ready(self) -> None:
        pass


def test_a_sweep_without_room_says_what_it_asks_for_and_who_holds_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    actor: Any = ray.remote(num_cpus=2)(Server)
    server = actor.remote()
    ray.get(server.ready.remote())
    text = yaml.safe_dump(SMALL | {"trial": {"num_cpus": 2}})
    (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
    sweep = start_program(
        "tune", "--config", "sweep.yaml", "--run-dir", "sweep", cwd=tmp_path, cluster=cluster
    )
    assert sweep.stdout is not None
    said = next((line for line in sweep.stdout if "waiting for room" in line), "")
    sweep.send_signal(signal.SIGINT)
    _, errors = sweep.communicate()
    ray.kill(server)
    assert "a trial asks for 2 CPUs; free are 0 of 2 CPUs" in said, errors
    assert f"process {os.getpid()} (1 actor)" in said
    assert sweep.returncode == 130
