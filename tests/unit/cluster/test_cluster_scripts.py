"""The scripts of `cluster/`, run for real; Slurm, Ray and the training are stand-ins on PATH."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.copied_commands import CLUSTER
from tests.helpers.scripts import load_script

RUN = """
echo "run $*" >> "$LOG"
pwd > "$LOG.place"
case "$1" in
    *wait_for_cpus.py)
        [ -z "${NEVER_ENOUGH-}" ] || exec /bin/sleep 60
        until [ "$(grep -c -- "ray start --address" "$LOG")" -gt "${FAILS-0}" ]; do
            sleep 0.01  # Until they have joined.
        done
        exit 0
        ;;
esac
if [ "$1" = -c ] && [ -n "${SAVED_MEANWHILE-}" ]; then
    mkdir -p "$SAVED_MEANWHILE"
fi
trap 'echo saved >> "$LOG"; exit 130' TERM
echo started >> "$LOG"
[ -n "${ENDS_AT_ONCE-}" ] && exit "$ENDS_AT_ONCE"
while :; do sleep 0.05; done
"""
"""Instead of python: a run that goes on until it is told to save."""
WAITING = "run cluster/wait_for_cpus.py 32"
SRUN = """
echo "srun $*" >> "$LOG"
case "$*" in
    *hostname*) echo 127.0.1.1 192.0.2.1 192.0.2.9 ;;
    *--head*) exec /bin/sleep 60 ;;
    *)
        [ "$(grep -c -- "ray start --address" "$LOG")" -gt "${FAILS-0}" ] || exit 1
        exec /bin/sleep 60
        ;;
esac
"""
"""The start of a worker fails FAILS times."""
STAND_INS = {
    "python": RUN,
    "srun": SRUN,
    "sleep": "exec /bin/sleep 0.01",
    "ray": 'echo "ray $* $RAY_AUTH_MODE" >> "$LOG"; echo secret',
    "scontrol": 'echo "scontrol $*" >> "$LOG"; [ "$1" != show ] || printf "node1\\nnode2\\n"',
}


class Place:
    """A checkout of its own with the real scripts, and a log of what they called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        (root / "cluster").symlink_to(CLUSTER)
        (root / "bin").mkdir()
        for name, text in STAND_INS.items():
            file = root / "bin" / name
            file.write_text(f"#!/bin/bash\n{text}\n")
            file.chmod(0o755)
        self.log.write_text("")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, cwd: str = ".", **environ: str) -> subprocess.Popen[str]:
        slurm = {
            "SLURM_SUBMIT_DIR": str(self.root),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "16",
        }
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        process = subprocess.Popen(
            words,
            cwd=self.root / cwd,
            env=slurm | {"PATH": path, "LOG": str(self.log), "HOME": str(self.root)} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, line: str) -> None:
        """Blocks until the log has the line; what was started must not end before."""
        deadline = time.monotonic() + 20
        while line not in self.lines():
            assert self.started[-1].poll() is None, self.lines()
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)

    def close(self) -> None:
        """Ends whatever a failed test has left."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def train(place: Place, *arguments: str) -> tuple[int, list[str], str]:
    """Exit code, calls and output of train.sh, started from elsewhere."""
    script = str(place.root / "cluster/train.sh")
    process = place.start("sh", script, *arguments, cwd="bin", ENDS_AT_ONCE="7")
    output, _ = process.communicate(timeout=20)
    return process.returncode, place.lines(), output


def test_a_run_is_started_where_there_is_none(place: Place) -> None:
    code, lines, _ = train(place, str(place.root / "runs/a"), "--seed", "3")
    assert lines[0] == f"run run.py --run-dir {place.root}/runs/a --seed 3"
    assert code == 7
    assert (place.root / "log.place").read_text() == f"{place.root}\n"


def test_a_run_with_a_checkpoint_is_gone_on_with(place: Place) -> None:
    (place.root / "runs/a/checkpoints/step-000000000064").mkdir(parents=True)
    _, lines, _ = train(place, str(place.root / "runs/a"), "--seed", "3")
    assert (
        lines[0]
        == f"run run.py --resume latest --force --trust --run-dir {place.root}/runs/a --seed 3"
    )


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_run_that_saved_nothing_is_set_aside(place: Place, slash: str) -> None:
    run_dir = place.root / "runs/a"
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text("{}")
    _, lines, _ = train(place, f"{run_dir}{slash}")
    assert lines[0] == f"run run.py --run-dir {run_dir}"
    assert not run_dir.exists()
    (aside,) = place.root.glob("runs/a.no-checkpoint.*")
    assert (aside / "config.json").is_file()


@pytest.mark.parametrize(("answer", "is_moved"), [("0", True), ("1", False)])
def test_a_run_that_another_process_has_locked_is_not_set_aside(
    place: Place, answer: str, is_moved: bool
) -> None:
    """run.py then names the process; the stand-in for python answers whether the lock is free."""
    run_dir = place.root / "runs/a"
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text("{}")
    (run_dir / ".lock").write_text("")
    script = str(place.root / "cluster/train.sh")
    place.start("sh", script, str(run_dir), ENDS_AT_ONCE=answer).communicate(timeout=20)
    first, *_, last = [line for line in place.lines() if line.startswith("run ")]
    assert first.startswith("run -c import sys;")
    assert first.endswith(f" {run_dir}")
    assert last == f"run run.py --run-dir {run_dir}"
    assert run_dir.exists() != is_moved


@pytest.mark.parametrize("answer", ["0", "1"])
def test_a_run_that_is_saved_while_its_lock_is_waited_for_is_gone_on_with(
    place: Place, answer: str
) -> None:
    """Its process was killed before the first checkpoint; another may train there since."""
    run_dir = place.root / "runs/a"
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text("{}")
    (run_dir / ".lock").write_text("")
    saved = str(run_dir / "checkpoints/step-000000000064")
    script = str(place.root / "cluster/train.sh")
    process = place.start(
        "sh", script, str(run_dir), "--seed", "3", ENDS_AT_ONCE=answer, SAVED_MEANWHILE=saved
    )
    process.communicate(timeout=20)
    *_, last = [line for line in place.lines() if line.startswith("run ")]
    assert last == f"run run.py --resume latest --force --trust --run-dir {run_dir} --seed 3"
    assert list(place.root.glob("runs/*")) == [run_dir]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--init-from", "runs/pre", "--seed", "3"], "--seed 3"),
        (["--seed", "3", "--init-from=runs/pre"], "--seed 3"),
        (["--set", "run.init_from=latest", "--seed", "3"], "--seed 3"),
        (["--set=run.init_from=latest"], ""),
        (["--set", "run.init_from=runs/pre"], "--set=run.init_from=runs/pre"),
        (["--set", "run.seed=3", "--config", "a b.yaml"], "--set=run.seed=3 --config a b.yaml"),
        (["--seed", "3", "--set"], "--seed 3 --set"),
    ],
)
def test_a_run_that_goes_on_does_not_begin_again_from_another_network(
    place: Place, given: list[str], kept: str
) -> None:
    run_dir = place.root / "runs/a"
    (run_dir / "checkpoints/step-000000000064").mkdir(parents=True)
    _, lines, _ = train(place, str(run_dir), *given)
    expected = f"run run.py --resume latest --force --trust --run-dir {run_dir} {kept}"
    assert lines[0] == expected.rstrip()


def test_a_run_that_begins_takes_the_network_that_it_is_given(place: Place) -> None:
    _, lines, _ = train(place, "runs/a", "--init-from", "runs/pre", "--set", "run.seed=3")
    assert lines[0] == "run run.py --run-dir runs/a --init-from runs/pre --set run.seed=3"


def test_a_run_at_a_uri_that_goes_on_does_not_begin_again_from_another_network(
    place: Place,
) -> None:
    uri = "s3://bucket/runs/a"
    script = str(place.root / "cluster/train.sh")
    process = place.start("sh", script, uri, "--init-from", "runs/pre", ENDS_AT_ONCE="0")
    process.communicate(timeout=20)
    *_, last = [line for line in place.lines() if line.startswith("run ")]
    assert last == f"run run.py --resume latest --trust --run-dir {uri}"


@pytest.mark.parametrize(("answer", "resume"), [("0", "--resume latest --trust "), ("1", "")])
def test_a_run_at_a_uri_is_gone_on_with_if_it_has_a_checkpoint(
    place: Place, answer: str, resume: str
) -> None:
    uri = "s3://bucket/runs/a"
    script = str(place.root / "cluster/train.sh")
    place.start("sh", script, uri, "--seed", "3", ENDS_AT_ONCE=answer).communicate(timeout=20)
    asked, started = (line for line in place.lines() if line.startswith("run "))
    assert "holds_checkpoint" in asked
    assert asked.endswith(uri)
    assert started == f"run run.py {resume}--run-dir {uri} --seed 3"


@pytest.mark.parametrize("arguments", [[], ["--seed", "3"]])
def test_a_run_without_a_directory_is_refused(place: Place, arguments: list[str]) -> None:
    code, lines, output = train(place, *arguments)
    assert code == 2
    assert lines == []
    assert "expected the directory of the run" in output


@pytest.mark.parametrize(
    ("sent", "is_requeued"),
    [(signal.SIGUSR1, True), (signal.SIGTERM, False), (signal.SIGINT, False)],
)
def test_a_slurm_job_saves_when_told_to_and_is_requeued_at_its_time_limit(
    place: Place, sent: signal.Signals, is_requeued: bool
) -> None:
    process = place.start("bash", "cluster/slurm.sh", str(place.root / "runs/a"), "--seed", "3")
    place.wait_for("started")
    process.send_signal(sent)
    output, _ = process.communicate(timeout=20)
    lines = place.lines()
    assert process.returncode == 130
    assert "saved" in lines
    assert ("scontrol requeue 4711" in lines) == is_requeued
    assert "secret" not in output


def test_a_slurm_job_starts_a_head_the_other_nodes_and_one_run(place: Place) -> None:
    process = place.start(
        "bash", "cluster/slurm.sh", str(place.root / "runs/a"), "--seed", "3", ENDS_AT_ONCE="0"
    )
    process.communicate(timeout=20)
    lines = place.lines()
    assert process.returncode == 0
    (head,) = (line for line in lines if "ray start --head" in line)
    assert "--nodelist=node1" in head
    assert "--node-ip-address=192.0.2.1 --port=24711 --num-cpus=16 --block" in head
    (others,) = (line for line in lines if "ray start --address" in line)
    assert "--nodes=1 --ntasks=1 --nodelist=node2" in others
    assert "--address=192.0.2.1:24711 --num-cpus=16 --block" in others
    assert [line for line in lines if line.startswith("run ")] == [
        WAITING,
        f"run run.py --run-dir {place.root}/runs/a --seed 3",
    ]
    assert all(line.endswith(" token") for line in lines if line.startswith("ray "))
    assert not any("requeue" in line for line in lines)


@pytest.mark.parametrize(("sent", "is_requeued"), [(signal.SIGUSR1, True), (signal.SIGINT, False)])
def test_a_slurm_job_that_is_told_to_stop_before_its_run_begins_starts_none(
    place: Place, sent: signal.Signals, is_requeued: bool
) -> None:
    process = place.start("bash", "cluster/slurm.sh", "runs/a", NEVER_ENOUGH="yes")
    place.wait_for(WAITING)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=20)
    lines = place.lines()
    assert process.returncode == 130
    assert not any(line.startswith("run run.py") for line in lines)
    assert ("scontrol requeue 4711" in lines) == is_requeued
    assert "has not begun" in output or "before the run began" in output


def test_a_worker_of_a_slurm_job_that_does_not_start_is_started_again(place: Place) -> None:
    process = place.start("bash", "cluster/slurm.sh", "runs/a", FAILS="2", ENDS_AT_ONCE="0")
    output, _ = process.communicate(timeout=20)
    assert output.count("Ray on node2 has ended") == 2
    assert "run run.py --run-dir runs/a" in place.lines()
    assert process.returncode == 0


def test_a_slurm_job_ends_with_a_line_if_a_worker_never_starts(place: Place) -> None:
    process = place.start(
        "bash", "cluster/slurm.sh", "runs/a", FAILS="9", NEVER_ENOUGH="yes", ENDS_AT_ONCE="0"
    )
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output.splitlines()[-2:] == [
        "slurm.sh: Ray on node2 has ended, start 3 of 3; its output is above.",
        "slurm.sh: the nodes of this job cannot be used; the reason is above.",
    ]
    assert not any("run.py" in line or "requeue" in line for line in place.lines())


def test_a_slurm_job_without_a_directory_is_refused(place: Place) -> None:
    process = place.start("bash", "cluster/slurm.sh")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "expected the directory of the run" in output
    assert place.lines() == []


def wait_module() -> ModuleType:
    return load_script(CLUSTER / "wait_for_cpus.py")


@pytest.mark.parametrize(
    ("counts", "there", "slept_s"), [([8, 32, 64], 64, 4), ([64], 64, 0), ([8] * 9, 8, 6)]
)
def test_waiting_for_cpus_ends_when_they_are_there_or_the_time_is_over(
    counts: list[int], there: int, slept_s: float
) -> None:
    module = wait_module()
    now = [0.0]
    left = iter(counts)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    said: list[str] = []
    found = module.wait_for_cpus(
        64, 6, count=lambda: next(left), clock=lambda: now[0], sleep=sleep, say=said.append
    )
    assert (found, now[0]) == (there, slept_s)
    # Once for each number of CPUs, from the first look on.
    assert len(said) == len(dict.fromkeys(counts) | {64: 0}) - 1


def test_waiting_without_a_cluster_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    module = wait_module()
    monkeypatch.setattr(module.ray, "init", refuse)
    monkeypatch.setattr("sys.argv", ["wait_for_cpus.py", "64"])
    assert module.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no Ray cluster" in line
