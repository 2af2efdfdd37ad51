"""The faults of a campaign: what is done to a run, and how it may end by it.

Each is a function that does it and returns once it is done. `Fault.codes` has the exit codes that
are right; a fault without any is one that a run must survive.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    DIAGNOSTICS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    TEMPORARY_PREFIX,
)
from tests.chaos.chaos_run import ChaosRun
from tests.chaos.processes import end_session, send
from tests.helpers.program import run_program, session_members
from tests.helpers.subscribers import SLEEPER

ENGINE: Final = Path(__file__).with_name("hung_engine.sh")
JSON_LINES: Final = (METRICS_FILE, GAMES_FILE, EVENTS_FILE, DIAGNOSTICS_FILE)


# ---- faults that a run survives ----

Live = Callable[[ChaosRun, random.Random], None]


def kill_actor(run: ChaosRun, rng: random.Random) -> None:
    """A self-play actor is killed."""
    send(rng.choice(run.a("actor")), signal.SIGKILL)


def kill_all_actors(run: ChaosRun, rng: random.Random) -> None:
    """All self-play actors are killed at once."""
    for pid in run.a("actor"):
        send(pid, signal.SIGKILL)


def kill_learner(run: ChaosRun, rng: random.Random) -> None:
    """The learner is killed."""
    send(rng.choice(run.a("learner")), signal.SIGKILL)


def kill_learner_and_actor(run: ChaosRun, rng: random.Random) -> None:
    """The learner and an actor are killed at once."""
    for role in ("learner", "actor"):
        send(rng.choice(run.a(role)), signal.SIGKILL)


def kill_evaluator(run: ChaosRun, rng: random.Random) -> None:
    """The evaluator is killed."""
    for pid in run.pids("evaluator"):
        send(pid, signal.SIGKILL)


def kill_actor_while_starting(run: ChaosRun, rng: random.Random) -> None:
    """An actor is killed, and the process that is to take its place too, as soon as it is seen."""
    known = set(session_members(run.pid))
    kill_actor(run, rng)
    new = run.wait_for(
        lambda: (set(run.pids("starting worker")) | set(run.pids("actor"))) - known,
        "a process in the place of an actor",
    )
    time.sleep(rng.uniform(0, 1.5))
    for pid in new:
        send(pid, signal.SIGKILL)


def kill_learner_while_starting(run: ChaosRun, rng: random.Random) -> None:
    """The learner is killed, and its successor while it starts."""
    known = set(session_members(run.pid))
    kill_learner(run, rng)
    new = run.wait_for(
        lambda: set(run.pids("learner")) - known, "a process in the place of the learner"
    )
    time.sleep(rng.uniform(0, 1.5))
    for pid in new:
        send(pid, signal.SIGKILL)


def kill_standby(run: ChaosRun, rng: random.Random) -> None:
    """The standby process is killed, and must be replaced."""
    pid = rng.choice(run.a("standby"))
    send(pid, signal.SIGKILL)
    run.wait_for(lambda: set(run.pids("standby")) - {pid}, "another standby process")


def kill_helpers_of_ray(run: ChaosRun, rng: random.Random) -> None:
    """One of Ray's log monitor, autoscaler and dashboard is killed."""
    role = rng.choice(("log monitor", "autoscaler", "dashboard"))
    for pid in run.pids(role):
        send(pid, signal.SIGKILL)


def _halted(role: str) -> Live:
    def halt(run: ChaosRun, rng: random.Random) -> None:
        pids = run.a(role)
        pid = rng.choice(pids)
        send(pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0.5, 3.0))
        send(pid, signal.SIGCONT)

    return halt


def _halted_for_good(role: str) -> Live:
    def halt(run: ChaosRun, rng: random.Random) -> None:
        pid = rng.choice(run.a(role))
        send(pid, signal.SIGSTOP)
        run.stopped.add(pid)
        run.wait_for(lambda: pid not in run.pids(role), f"the end of a {role} that is halted")

    return halt


def halt_driver(run: ChaosRun, rng: random.Random) -> None:
    """The driver is halted for some seconds, as by Ctrl-Z."""
    send(run.pid, signal.SIGSTOP)
    time.sleep(rng.uniform(0.5, 3.0))
    send(run.pid, signal.SIGCONT)


def fill_disk(run: ChaosRun, rng: random.Random) -> None:
    """No file of the driver can grow for some seconds."""
    with full_disk(run.pid):
        time.sleep(rng.uniform(0.5, 4.0))


@contextlib.contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Lets no file of a process grow inside the block."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def close_reader(run: ChaosRun, rng: random.Random) -> None:
    """The reader of standard output leaves, as `| head` does."""
    run.leave()


def second_run(run: ChaosRun, rng: random.Random) -> None:
    """A second process wants to go on with the run, or to begin one in its directory."""
    command = ["--run-dir", str(run.run_dir), *rng.choice(([], ["--resume", "latest"]))]
    done = run_program(*command, cwd=run.run_dir.parent)
    seen = (done.returncode, len(done.stderr.splitlines()))
    assert seen == (2, 1), f"a second run ended with {done.returncode}: {done.stderr[-300:]}"


def damage_checkpoint_of_living_run(run: ChaosRun, rng: random.Random) -> None:
    """A byte of the newest checkpoint changes while the run goes on."""
    run.wait_for(lambda: len(_checkpoints(run.run_dir)) > 1, "two checkpoints")
    with contextlib.suppress(OSError):  # It has been removed as too old.
        flip_checkpoint(run.run_dir, rng)


def remove_record(run: ChaosRun, rng: random.Random) -> None:
    """A file of records is removed while the run goes on, which must write it again."""
    file = run.run_dir / rng.choice((METRICS_FILE, GAMES_FILE, EVENTS_FILE))
    file.unlink()
    run.wait_for(file.exists, f"{file.name} again")


def remove_newest_checkpoint(run: ChaosRun, rng: random.Random) -> None:
    """The newest checkpoint is removed while the run goes on."""
    run.wait_for(lambda: len(_checkpoints(run.run_dir)) > 1, "two checkpoints")
    shutil.rmtree(_checkpoints(run.run_dir)[-1], ignore_errors=True)


def see_status(run: ChaosRun, rng: random.Random) -> None:
    """`status` is asked about the run while it goes on."""
    done = run_program("status", str(run.run_dir), "--json", "-", cwd=run.run_dir.parent)
    assert done.returncode == 0, f"status ended with {done.returncode}: {done.stderr[-300:]}"
    json.loads(done.stdout)


LIVE: Final[Mapping[str, Live]] = {
    "kill -9 of an actor": kill_actor,
    "kill -9 of all actors": kill_all_actors,
    "kill -9 of the learner": kill_learner,
    "kill -9 of learner and actor at once": kill_learner_and_actor,
    "kill -9 of the evaluator": kill_evaluator,
    "kill -9 of an actor and of the process that starts in its place": kill_actor_while_starting,
    "kill -9 of the learner and of its successor while it starts": kill_learner_while_starting,
    "kill -9 of the standby process": kill_standby,
    "kill -9 of Ray's log monitor, autoscaler or dashboard": kill_helpers_of_ray,
    "actor halted for 0.5 to 3 s": _halted("actor"),
    "learner halted for 0.5 to 3 s": _halted("learner"),
    "actor halted for good": _halted_for_good("actor"),
    "learner halted for good": _halted_for_good("learner"),
    "driver halted for 0.5 to 3 s": halt_driver,
    "raylet halted for 0.5 to 3 s": _halted("raylet"),
    "GCS halted for 0.5 to 3 s": _halted("gcs_server"),
    "standby process halted for 0.5 to 3 s": _halted("standby"),
    "standby process halted for good": _halted_for_good("standby"),
    "disk full for 0.5 to 4 s": fill_disk,
    "reader of standard output leaves": close_reader,
    "second run in the same directory": second_run,
    "newest checkpoint damaged while the run goes on": damage_checkpoint_of_living_run,
    "newest checkpoint removed while the run goes on": remove_newest_checkpoint,
    "record file removed while the run goes on": remove_record,
    "status is asked": see_status,
}
"""Name -> a fault after which the run must go on by itself."""
MAY_END_BY: Final = {"disk full for 0.5 to 4 s": frozenset({2})}
"""Name -> exit codes by which the run may end all the same: a checkpoint that cannot be saved."""


# ---- how a run is started ----


def hang_up(run: ChaosRun, rng: random.Random) -> None:
    """The terminal ends: SIGHUP to the driver's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGHUP)


@dataclass(frozen=True)
class Start:
    """A hostile way to start a run, which must train all the same."""

    options: Mapping[str, Any]
    """Further arguments of `ChaosRun`."""
    then: Live | None = None
    """Fault injected once the run trains; None: none."""


STARTS: Final[Mapping[str, Start]] = {
    "standard output never read": Start({"is_read": False}),
    "standard output closed": Start({"closed": (1,)}),
    "standard error closed": Start({"closed": (2,)}),
    "all standard streams closed": Start({"closed": (0, 1, 2)}),
    "SIGHUP under nohup": Start({"before": ("nohup",)}, hang_up),
    "subscriber that never returns": Start({"subscribers": (SLEEPER,)}),
    "engine of the pool that hangs": Start(
        {
            "settings": (
                "pool.share=0.5",
                f'pool.members=["usi:sh {ENGINE}?timeout-s=2&processes=1"]',
            )
        }
    ),
    "smallest object store, four times the games": Start(
        {"settings": ("self_play.games_per_actor=32",)}
    ),
}
"""Name -> a hostile way to start a run."""


# ---- faults that end a run ----


@dataclass(frozen=True)
class Ending:
    """A fault after which a run ends."""

    act: Callable[[ChaosRun, random.Random], None]
    codes: frozenset[int]
    """Exit codes that are right."""
    is_saved: bool
    """Whether the newest finished update must have been saved: up to `LAST_UPDATES` before it if
    the process did not end by itself."""


def _signalled(signum: int) -> Callable[[ChaosRun, random.Random], None]:
    def act(run: ChaosRun, rng: random.Random) -> None:
        send(run.pid, signum)

    return act


def interrupt_all(run: ChaosRun, rng: random.Random) -> None:
    """Ctrl-C: all processes of the driver's group get SIGINT."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGINT)


def interrupt_twice(run: ChaosRun, rng: random.Random) -> None:
    """Ctrl-C twice: the second does not wait for the saving."""
    send(run.pid, signal.SIGINT)
    time.sleep(rng.uniform(0.0, 1.0))
    send(run.pid, signal.SIGINT)


def kill_driver_while_ending(run: ChaosRun, rng: random.Random) -> None:
    """SIGTERM, and SIGKILL before the run can have ended."""
    send(run.pid, signal.SIGTERM)
    time.sleep(rng.uniform(0.0, 1.5))
    send(run.pid, signal.SIGKILL)


def kill_while_saving(run: ChaosRun, rng: random.Random) -> None:
    """SIGKILL while a checkpoint is being written, which its temporary directory shows.

    The driver is halted there, so that it cannot finish before it is killed.
    """
    del rng
    driver = psutil.Process(run.pid)

    def is_caught() -> bool:
        if not half_written(run.run_dir):
            return False
        driver.suspend()
        while driver.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)
        if half_written(run.run_dir):
            return True
        driver.resume()
        return False

    run.wait_for(is_caught, "a checkpoint that is being written", every_s=0.0005)
    driver.kill()


def half_written(run_dir: Path) -> list[Path]:
    """Returns the temporary directories of checkpoints that are being written, or never were."""
    return list((run_dir / CHECKPOINTS_DIR).glob(f"{TEMPORARY_PREFIX}*"))


def kill_everything(run: ChaosRun, rng: random.Random) -> None:
    """All processes of the run are killed at once, as when the power goes."""
    end_session(run.pid)


def _killed(role: str) -> Callable[[ChaosRun, random.Random], None]:
    def act(run: ChaosRun, rng: random.Random) -> None:
        send(rng.choice(run.a(role)), signal.SIGKILL)

    return act


def fill_disk_for_good(run: ChaosRun, rng: random.Random) -> None:
    """No file of the driver can grow until the run has ended by itself."""
    _, hard = resource.prlimit(run.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (1, hard))


def move_directory(run: ChaosRun, rng: random.Random) -> None:
    """The run's directory gets another name, and its own again once the run has ended."""
    moved = run.run_dir.with_name("moved")
    run.run_dir.rename(moved)
    run.wait_end()
    assert not run.run_dir.exists(), "the run has made a directory where its own was"
    moved.rename(run.run_dir)


KILLED: Final = frozenset({-signal.SIGKILL})
RAY_GONE: Final = frozenset({2, 1})
"""Exit codes of a run whose raylet dies: 1 if that is while it reads from the object store, for
then Ray ends it at once."""
LAST_UPDATES: Final = 2
"""Updates on record that a process which is killed may not have handed over."""
ENDINGS: Final[Mapping[str, Ending]] = {
    "SIGTERM": Ending(_signalled(signal.SIGTERM), frozenset({130}), True),
    "SIGINT": Ending(_signalled(signal.SIGINT), frozenset({130}), True),
    "Ctrl-C": Ending(interrupt_all, frozenset({130}), True),
    # A signal that comes while Python itself ends kills it, which a shell calls 130 as well.
    "SIGINT twice": Ending(interrupt_twice, frozenset({130, -signal.SIGINT}), False),
    "SIGHUP": Ending(hang_up, frozenset({129}), True),
    "kill -9 of the driver": Ending(_signalled(signal.SIGKILL), KILLED, True),
    "kill -9 of the driver while it writes a checkpoint": Ending(kill_while_saving, KILLED, True),
    "SIGTERM, then kill -9": Ending(kill_driver_while_ending, KILLED | {130}, True),
    "kill -9 of every process": Ending(kill_everything, KILLED, False),
    "kill -9 of the raylet": Ending(_killed("raylet"), RAY_GONE, True),
    "kill -9 of the GCS": Ending(_killed("gcs_server"), frozenset({2}), True),
    "kill -9 of an agent of Ray": Ending(_killed("agent"), RAY_GONE, True),
    "run directory moved": Ending(move_directory, frozenset({2}), True),
    "disk full for good": Ending(fill_disk_for_good, frozenset({2}), False),
}
"""Name -> a fault after which the run ends, and can be gone on with."""


EARLY: Final[Mapping[str, tuple[int, frozenset[int]]]] = {
    "SIGINT in the first seconds": (signal.SIGINT, frozenset({130})),
    "SIGTERM in the first seconds": (signal.SIGTERM, frozenset({130, -signal.SIGTERM})),
    "kill -9 of the driver in the first seconds": (signal.SIGKILL, KILLED),
}
"""Name -> (signal, right exit codes) of a signal at a random moment of a start."""


DIVERGED: Final = "learning rate 3e38"
"""A start with a learning rate that makes every update infinite: it ends, with sound weights."""


# ---- damage between two starts ----

Damage = Callable[[Path, random.Random], None]


def _checkpoints(run_dir: Path) -> list[Path]:
    return sorted((run_dir / CHECKPOINTS_DIR).glob("step-*"))


def _file_of_newest(run_dir: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(_checkpoints(run_dir)[-1].iterdir()))


def truncate_checkpoint(run_dir: Path, rng: random.Random) -> None:
    """A file of the newest checkpoint is cut short."""
    file = _file_of_newest(run_dir, rng)
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(max(len(content), 1))])


def flip_checkpoint(run_dir: Path, rng: random.Random) -> None:
    """A byte of a file of the newest checkpoint is another."""
    file = _file_of_newest(run_dir, rng)
    content = bytearray(file.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def delete_file_of_checkpoint(run_dir: Path, rng: random.Random) -> None:
    """A file of the newest checkpoint is missing."""
    _file_of_newest(run_dir, rng).unlink()


def delete_checkpoint(run_dir: Path, rng: random.Random) -> None:
    """The newest checkpoint is missing."""
    shutil.rmtree(_checkpoints(run_dir)[-1])


def delete_config(run_dir: Path, rng: random.Random) -> None:
    """The settings of the run are missing."""
    (run_dir / CONFIG_FILE).unlink()


def damage_config(run_dir: Path, rng: random.Random) -> None:
    """The settings of the run are damaged."""
    text = (run_dir / CONFIG_FILE).read_text()
    (run_dir / CONFIG_FILE).write_text(text[: rng.randrange(len(text))])


def cut_line(run_dir: Path, rng: random.Random) -> None:
    """A record file ends in a part of another line, as after the crash of the machine.

    The lines that a checkpoint counts are on the disk before it.
    """
    file = run_dir / rng.choice(JSON_LINES)
    content = file.read_bytes()
    last = content[content.rstrip(b"\n").rfind(b"\n") + 1 :]
    file.write_bytes(content + last[: rng.randrange(1, len(last) - 1)])


def leave_temporary(run_dir: Path, rng: random.Random) -> None:
    """A checkpoint that was being written is left behind."""
    half = run_dir / CHECKPOINTS_DIR / ".tmp-step-000099999999"
    half.mkdir(exist_ok=True)
    (half / "model.safetensors").write_bytes(rng.randbytes(1000))


DAMAGES: Final[Mapping[str, Damage]] = {
    "newest checkpoint truncated": truncate_checkpoint,
    "byte of the newest checkpoint changed": flip_checkpoint,
    "file of the newest checkpoint deleted": delete_file_of_checkpoint,
    "newest checkpoint deleted": delete_checkpoint,
    "config.json deleted": delete_config,
    "config.json damaged": damage_config,
    "last line of a record file cut": cut_line,
    "half-written checkpoint left behind": leave_temporary,
}
"""Name -> damage to a run directory between two starts. The run must go on from what is whole."""
TAKES_A_CHECKPOINT: Final = frozenset(list(DAMAGES)[:4])
"""Those after which an older checkpoint is needed."""
