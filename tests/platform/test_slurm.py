"""`cluster/slurm.sh` in a real Slurm: a controller and two nodes, Ray and a run in the job."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.machines import Machine, has_namespaces, machines
from tests.helpers.program import DEBUG_CONFIG, ROOT, json_records
from tests.helpers.waiting import wait_until

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
missing = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.platform,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing), reason=f"Slurm is not installed: {', '.join(missing)}"),
    pytest.mark.skipif(not has_namespaces(), reason="needs root and Linux namespaces"),
]

PATIENCE_S = 400
MUNGE = "/run/munge.socket"
CONF = f"""
ClusterName=test
SlurmctldHost=desk
AuthInfo=socket={MUNGE},cred_expire=10
SlurmUser=root
StateSaveLocation=/tmp/slurmctld
SlurmdSpoolDir=/tmp/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=5
MailProg=/bin/true
NodeName=node[1-2] CPUs=2 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES State=UP
"""
"""Requeued jobs start after `cred_expire` seconds."""
SMALL = ["--nodes=2", "--cpus-per-task=2", "--mem=0"]
RUN = ["--config", DEBUG_CONFIG, "--num-actors", "2", "--set", "evaluation.interval_timesteps=null"]


class Slurm:
    """A Slurm cluster: the desk, which has the controller, and two nodes."""

    def __init__(self, shared: Path, desk: Machine, nodes: list[Machine]) -> None:
        self.shared, self.desk = shared, desk
        self.place = shared / "checkout"
        self.place.mkdir()
        for name in ("cluster", "configs", "keisei_ray", "run.py"):
            (self.place / name).symlink_to(ROOT / name)
        self.bin = shared / "bin"
        self.bin.mkdir()
        (shared / "home").mkdir()
        self._environ = {
            "SLURM_CONF": str(shared / "slurm.conf"),
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/bin:/sbin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(shared / "home"),
        }
        (shared / "slurm.conf").write_text(CONF)
        key = shared / "munge.key"
        key.write_bytes(bytes(range(128)))
        key.chmod(0o400)
        for machine in (desk, *nodes):
            words = [f"--socket={MUNGE}", f"--key-file={key}", "--pid-file=/run/munged.pid"]
            files = ["--log-file=/run/munged.log", "--seed-file=/run/munged.seed", "--force"]
            self._start(machine, "munged", "--foreground", *words, *files)
        self._start(desk, "slurmctld", "-D")
        for node in nodes:
            self._start(node, "slurmd", "-D")
        wait_until(lambda: self.said("sinfo", "--noheader", "--format=%D %t") == "2 idle", 60)

    def _start(self, machine: Machine, program: str, *words: str) -> None:
        log = self.shared / f"{program}-{machine.name}.log"
        machine.start(program, *words, log=log, env=self._environ)

    def said(self, *words: str) -> str:
        """Returns what a command of Slurm prints on the desk."""
        time.sleep(0.5)  # Most callers look again and again.
        return self.desk.run(*words, cwd=self.place, env=self._environ).stdout.strip()

    def submit(self, *arguments: str, options: tuple[str, ...] = ()) -> str:
        """Submits the script and returns the job's number."""
        said = self.said("sbatch", *SMALL, *options, "cluster/slurm.sh", *arguments)
        found = re.fullmatch(r"Submitted batch job (\d+)", said)
        assert found is not None, said
        return found[1]

    def log(self, job: str) -> str:
        file = self.place / f"keisei-ray-{job}.log"
        return file.read_text() if file.exists() else ""

    def state(self, job: str) -> str:
        """Returns the state of a job with the number of its restarts."""
        shown = self.said("scontrol", "show", "job", job)
        found = re.search(r"JobState=(\w+).*Restarts=(\d+)", shown, flags=re.DOTALL)
        assert found is not None, shown
        return f"{found[1]} {found[2]}"

    def wait_for(self, job: str, condition: Callable[[], object]) -> None:
        """Blocks until the condition holds; shows the job's log if it never does."""
        try:
            wait_until(condition, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{self.state(job)}\n{self.log(job)}") from error

    def stand_in(self, name: str, text: str) -> None:
        """Puts a program before all others on the nodes' PATH."""
        file = self.bin / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    with machines(["desk", "node1", "node2"], tmp_path) as (desk, *nodes):
        yield Slurm(tmp_path, desk, nodes)


def test_a_job_is_requeued_before_and_in_its_run_and_goes_on(slurm: Slurm) -> None:
    """Slurm sends USR1 twice: while the nodes are still joining, and once updates are made."""
    run_dir = slurm.shared / "runs" / "first"
    total = ["--total-timesteps", "100000000"]
    job = slurm.submit(str(run_dir), *RUN, *total)
    slurm.wait_for(job, lambda: "Ray runtime started" in slurm.log(job))
    slurm.said("scancel", "--batch", "--signal=USR1", job)
    slurm.wait_for(job, lambda: "has not begun; back into the queue" in slurm.log(job))
    assert not run_dir.exists()
    slurm.wait_for(job, lambda: slurm.state(job) == "RUNNING 1")
    slurm.wait_for(job, lambda: len(json_records(run_dir / "metrics.jsonl")) >= 2)
    slurm.said("scancel", "--batch", "--signal=USR1", job)
    slurm.wait_for(job, lambda: slurm.state(job) == "RUNNING 2")
    assert "saved before the time limit" in slurm.log(job)

    def events() -> list[dict[str, Any]]:
        return json_records(run_dir / "events.jsonl")

    slurm.wait_for(job, lambda: [e for e in events() if e["kind"] == "run_started"][1:])
    first, second = [e for e in events() if e["kind"] == "run_started"]
    assert (first["cluster"]["num_nodes"], first["cluster"]["num_cpus"]) == (2, 4)
    saved = run_dir / "checkpoints"
    assert Path(second["resumed_from"]).parent.resolve() == saved.resolve()
    slurm.wait_for(
        job, lambda: json_records(run_dir / "metrics.jsonl")[-1]["timestep"] > second["timestep"]
    )
    slurm.said("scancel", "--batch", "--signal=INT", job)
    slurm.wait_for(job, lambda: slurm.state(job).startswith(("CANCELLED", "FAILED")))
    assert events()[-1]["reason"] == "interrupted"
    assert {e["node"] for e in events() if e["kind"] == "actor_ready"} == {"10.77.0.2", "10.77.0.3"}
