"""A machine that is lost with its whole cluster: another one goes on, from a bucket, by train.sh.

As a platform does it that starts a job again: the second machine is given the same command. GCS,
raylet, driver and all others get SIGKILL, and the second machine's disk is empty.
"""

import re
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import s3
from tests.helpers.machines import HOME, Machine, has_namespaces, machines
from tests.helpers.program import ROOT, json_records
from tests.helpers.waiting import wait_until

pytestmark = [
    pytest.mark.platform,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not has_namespaces(), reason="needs root and Linux namespaces"),
]

PATIENCE_S = 400
PORT = 5000
ASK = """
import sys, urllib.request
request = urllib.request.Request(f"http://127.0.0.1:5000/bucket{sys.argv[2]}", method=sys.argv[1])
print(urllib.request.urlopen(request).read().decode())
"""
"""Makes the bucket (PUT) or lists what is in it (GET)."""
TRAIN = [
    "sh", f"{HOME}/checkout/cluster/train.sh", "s3://bucket/runs/first",
    "--config", str(ROOT / "configs/debug.yaml"), "--num-actors", "2",
    "--total-timesteps", "100000000", "--set", "evaluation.interval_timesteps=null",
    "--set", "checkpoint.interval_timesteps=500",
]  # fmt: skip


def check_out(machine: Machine) -> None:
    """Makes a checkout on the machine; the run's local copy lies in it."""
    names = ("cluster", "configs", "keisei_ray", "run.py")
    machine.run("mkdir", f"{HOME}/checkout")
    machine.run("ln", "-s", *(str(ROOT / name) for name in names), f"{HOME}/checkout")


def test_another_machine_goes_on_with_the_run_of_one_that_was_lost(tmp_path: Path) -> None:
    with machines(["bucket", "first", "second"], tmp_path) as (bucket, first, second):
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin"
        environ = s3.environment(PORT) | {
            "AWS_ENDPOINT_URL_S3": f"http://{bucket.address}:{PORT}",
            "PATH": path,
            "PYTHONPATH": str(ROOT),
        }
        server = [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(PORT)]
        bucket.start(*server, log=tmp_path / "bucket.log")
        ask = [sys.executable, "-c", ASK]
        wait_until(lambda: bucket.run(*ask, "PUT", "").returncode == 0, PATIENCE_S)

        def saved() -> list[int]:
            """Timesteps of the whole checkpoints in the bucket."""
            time.sleep(1)  # Between looks, each of which takes a process.
            listed = bucket.run(*ask, "GET", "?list-type=2").stdout
            return [int(step) for step in re.findall(r"/step-(\d+)/manifest\.json<", listed)]

        for machine in (first, second):
            check_out(machine)
        log = tmp_path / "first.log"
        first.start(*TRAIN, log=log, env=environ)
        try:
            wait_until(lambda: len(saved()) >= 2, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(log.read_text()) from error
        first.off()
        before = max(saved())

        log = tmp_path / "second.log"
        second.start(*TRAIN, log=log, env=environ)
        try:
            wait_until(lambda: max(saved()) > before, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(log.read_text()) from error
        copy = f"/proc/{second.pid}/root{HOME}/checkout/runs"
        (run_dir,) = Path(copy).glob("first-*")
        started = [e for e in json_records(run_dir / "events.jsonl") if e["kind"] == "run_started"]
        assert [event["timestep"] for event in started] == [0, before]
        timesteps = [record["timestep"] for record in json_records(run_dir / "metrics.jsonl")]
        assert before in timesteps
        assert timesteps == sorted(set(timesteps))
