"""`ray up cluster/on-premises.yaml` for real: hosts with sshd that had no Ray, a run, `ray down`.

Only pip is a stand-in, since the hosts reach no registry: the packages of this environment count as
downloaded, and `pip install -e` makes the checkout on the host importable, as it really does.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.machines import HOME, Machine, has_namespaces, machines
from tests.helpers.program import ROOT, json_records
from tests.helpers.waiting import wait_until

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync", "tmux")
missing = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.platform,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(not has_namespaces(), reason="needs root and Linux namespaces"),
]

PATIENCE_S = 400
WORKER_LEAVES_S = 240
"""Seconds for the processes of a worker whose head is gone: twice what the docs say."""
RAY_IS_UP = "raylet/raylet|gcs_server|ray::|monitor[.]py"
SITE_PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))
VENV = f"{HOME}/keisei-venv"
SITE = f"{VENV}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
PIP = f"""#!/bin/bash
for last in "$@"; do :; done
[ -f "$last/pyproject.toml" ] && echo "$last" > {SITE}/keisei-ray.pth
"""
RAY = f"""#!{VENV}/bin/python
from ray.scripts.scripts import main
main()
"""


def edited(shared: Path, head: Machine, workers: list[Machine]) -> Path:
    """The launcher's file with its lines marked EDIT filled in, and nothing else changed."""
    values = {
        "head_ip": head.address,
        "worker_ips": f"[{', '.join(worker.address for worker in workers)}]",
        "ssh_user": "root",
        "ssh_private_key": str(shared / "key"),
    }
    lines = (ROOT / "cluster/on-premises.yaml").read_text().splitlines()
    for index, line in enumerate(lines):
        if line.endswith("# EDIT"):
            key = line.split(":")[0]
            lines[index] = f"{key}: {values.pop(key.strip())}"
    assert values == {}
    file = shared / "on-premises.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Machine]]:
    """A desk and two hosts that accept its key; Python and what pip would download are there."""
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", ""]
    for name in ("key", "host_key"):
        subprocess.run([*keygen, "-f", str(tmp_path / name)], check=True)
    options = [
        f"HostKey={tmp_path}/host_key", f"AuthorizedKeysFile={tmp_path}/key.pub",
        "StrictModes=no", "UsePAM=no", "PidFile=none",
    ]  # fmt: skip
    sshd = [shutil.which("sshd") or "", "-D", "-e", "-f", "/dev/null"]
    sshd += [word for option in options for word in ("-o", option)]
    for name, text in {"pip": PIP, "ray": RAY}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with machines(["desk", "head", "worker"], tmp_path) as booted:
        for host in booted[1:]:
            made = host.run(sys.executable, "-m", "venv", "--without-pip", VENV)
            assert made.returncode == 0, made.stdout
            host.run("cp", f"{tmp_path}/pip", f"{tmp_path}/ray", f"{VENV}/bin")
            host.run("sh", "-c", f"echo {SITE_PACKAGES} > {SITE}/packages.pth")
            host.start(*sshd, log=tmp_path / f"sshd-{host.name}.log")
        yield booted


def ray(desk: Machine, *words: str) -> str:
    """Runs `ray ...` on the desk in the checkout; returns its output, fails with it."""
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    done = desk.run(*command, cwd=ROOT, timeout_s=PATIENCE_S, env={"TERM": "xterm"})
    assert done.returncode == 0, done.stdout
    return done.stdout


def processes(machine: Machine, pattern: str) -> str:
    return machine.run("pgrep", "-af", pattern).stdout


def playing(run_dir: Path) -> set[str]:
    """Addresses of the hosts on which actors of the run have started."""
    events = json_records(run_dir / "events.jsonl")
    return {event["node"] for event in events if event["kind"] == "actor_ready"}


def test_hosts_join_a_run_is_trained_and_the_cluster_is_ended(
    hosts: list[Machine], tmp_path: Path
) -> None:
    desk, head, worker = hosts
    file = str(edited(tmp_path, head, [worker]))
    ray(desk, "get-auth-token", "--generate")
    ray(desk, "up", "--yes", file)
    wait = "python keisei-ray/cluster/wait_for_cpus.py"
    both = 2 * int(head.run("nproc", "--all").stdout)  # Without it, OMP_NUM_THREADS counts.
    ray(desk, "exec", file, f"{wait} {both} --timeout-s {PATIENCE_S}")

    # The commands of docs/clusters.md, with a small preset.
    train = (
        "sh keisei-ray/cluster/train.sh $HOME/runs/first --config configs/debug.yaml "
        "--total-timesteps 100000000 --num-actors auto --set cluster.address=auto "
        "--set evaluation.interval_timesteps=null"
    )
    ray(desk, "exec", "--tmux", file, train)
    run_dir = Path(f"/proc/{head.pid}/root{HOME}/runs/first")
    wait_until(lambda: len(json_records(run_dir / "metrics.jsonl")) >= 3, PATIENCE_S)
    # The autoscaler reports what joined with its next round.
    total = re.compile(rf"/{both}\.0 CPU")
    wait_until(lambda: total.search(ray(desk, "exec", file, "ray status")), PATIENCE_S)
    wait_until(lambda: playing(run_dir) == {head.address, worker.address}, PATIENCE_S)
    head.run("pkill", "--signal=TERM", "-f", "run.py --run-dir")
    wait_until(
        lambda: json_records(run_dir / "events.jsonl")[-1]["kind"] == "run_ended", PATIENCE_S
    )
    ray(desk, "rsync-down", file, "runs/first/", f"{tmp_path}/first/")
    ray(desk, "down", "--yes", file)

    assert json_records(tmp_path / "first" / "events.jsonl")[-1]["reason"] == "interrupted"
    assert list((tmp_path / "first" / "checkpoints").glob("step-*/manifest.json"))
    assert processes(head, RAY_IS_UP) == ""
    # `ray down` ends Ray on the head alone; a worker leaves once it misses the head.
    wait_until(lambda: not processes(worker, "raylet/raylet|ray::"), WORKER_LEAVES_S)
    stopped = worker.run(f"{VENV}/bin/ray", "stop")
    assert stopped.returncode == 0, stopped.stdout
    assert processes(worker, RAY_IS_UP) == ""
