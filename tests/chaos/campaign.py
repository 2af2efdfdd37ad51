"""Runs that are started, hurt, checked and resumed, by a plan or by a seed.

A run is one directory. It has several *lives*: processes that go on from the latest checkpoint. A
life may be started in a hostile way, takes some faults that it must survive, and ends by one that
it need not. Between two lives its files are damaged. The last life of a drawn run must train to its
end.

Plan and places of the damage are drawn from the seed and the number of the run. The moments are
not: they depend on how far the processes have come.
"""

import json
import random
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, EVENTS_FILE, METRICS_FILE
from tests.chaos import faults
from tests.chaos.chaos_run import NUM_ACTORS, ChaosRun, HasEnded
from tests.chaos.invariants import newest_usable, not_finite, violations
from tests.chaos.processes import leaked_shared_memory, send, shared_files
from tests.helpers.program import json_records

LIVES_PER_RUN: Final = 4
LIVE_FAULTS: Final = (8, 20)
"""Least and most faults that a drawn life takes before the one that ends it."""
EARLY_S: Final = 12.0
"""Longest time after a start at which a signal of `faults.EARLY` comes."""
LAST_TIMESTEPS: Final = 4096
"""Timesteps of a life that trains to its end."""
END: Final = "none: trains to its end"
START: Final = "none: starts"
OVERLOADED: Final = "Ray did not start here: The current node timed out during startup."
"""Beginning of what a run says whose Ray takes longer to start than Ray waits."""


@dataclass
class Injected:
    """A fault that was injected, and what became of the run. One line of a campaign's log."""

    fault: str
    outcome: str = ""
    """Reaction of the run: it went on, ended with an exit code, or was resumed."""
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Until the outcome was clear."""
    life: int = 0
    """Number of the process among the run's, from 0."""
    run: int = 0
    """Number of the run in the campaign, from 0."""
    seed: int = 0
    """The campaign's."""


@dataclass(frozen=True)
class Life:
    """The faults of one process of a run, by their names in `faults`."""

    early: str | None = None
    """Fault that ends a start before this one: of `faults.EARLY`, or `faults.DIVERGED`."""
    damages: Sequence[str] = ()
    """Damage to the directory before the start."""
    start: str | None = None
    """A hostile way to start."""
    live: Sequence[str] = ()
    """Faults to survive."""
    ending: str | None = None
    """The fault that ends it; None: it trains to its end."""


class Stop(Exception):
    """The run cannot be gone on with."""


def drawn_lives(rng: random.Random, only: Collection[str] = ()) -> list[Life]:
    """Returns the plan of one run.

    Args:
        rng: what it is drawn from.
        only: names of faults; others are not planned. Empty: all.
    """

    def wanted(names: Collection[str]) -> list[str]:
        return [name for name in names if not only or name in only]

    def one_of(names: Collection[str], chance: float) -> str | None:
        found = wanted(names)
        return rng.choice(found) if found and rng.random() < chance else None

    def some_of(names: Collection[str], least: int, most: int) -> list[str]:
        found = wanted(names)
        return rng.sample(found, k=min(len(found), rng.randint(least, most)))

    lives = []
    for number in range(LIVES_PER_RUN):
        is_last = number == LIVES_PER_RUN - 1
        lives.append(
            Life(
                early=one_of((*faults.EARLY, faults.DIVERGED), 0.3) if number else None,
                damages=some_of(faults.DAMAGES, 0, 2) if number else (),
                start=one_of(faults.STARTS, 0.5),
                live=() if is_last else some_of(faults.LIVE, *LIVE_FAULTS),
                ending=None if is_last else one_of(faults.ENDINGS, 1.0) or "SIGTERM",
            )
        )
    return lives


def endure(run_dir: Path, lives: Sequence[Life], rng: random.Random) -> Iterator[Injected]:
    """Puts a run through its lives; yields each fault once its outcome is clear and was checked.

    Args:
        run_dir: does not exist yet; its parent does.
        lives: the plan.
        rng: for moments, processes and places.
    """
    try:
        for number, life in enumerate(lives):
            for injected in _live(run_dir, life, rng, is_first=number == 0):
                injected.life = number
                yield injected
    except Stop:
        return


def campaign(
    seed: int,
    num_faults: int,
    *,
    log: Path | None,
    folder: Path,
    only: Collection[str] = (),
) -> list[Injected]:
    """Injects faults until there are `num_faults` in all, those of an earlier part included.

    Args:
        seed: of everything that is drawn.
        num_faults: how many in the end.
        log: file with one JSON object per fault, which a stopped campaign goes on from. None: none.
        folder: for the runs; the directory of each stays.
        only: names of faults; empty: all.
    """
    done = read_log(log) if log else []
    number = 1 + max((injected.run for injected in done if injected.seed == seed), default=-1)
    while len(done) < num_faults:
        rng = random.Random(f"{seed}-{number}")
        run_dir = Path(tempfile.mkdtemp(dir=folder, prefix=f"{number:04}-")) / "run"
        for injected in endure(run_dir, drawn_lives(rng, only), rng):
            injected.seed, injected.run = seed, number
            done.append(injected)
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(asdict(injected)) + "\n")
        number += 1
    return done


def read_log(log: Path) -> list[Injected]:
    """Returns the faults that a log has."""
    if not log.exists():
        return []
    return [Injected(**json.loads(line)) for line in log.read_text().splitlines()]


# ---- one life ----


def _live(run_dir: Path, life: Life, rng: random.Random, *, is_first: bool) -> Iterator[Injected]:
    memory = shared_files()
    if life.early and newest_usable(run_dir) is not None:
        end = _diverge if life.early == faults.DIVERGED else _end_early
        yield end(run_dir, life.early, rng, memory)
    damaged = list(_damage(run_dir, life.damages, rng))
    saved = newest_usable(run_dir)
    if saved is None and not is_first:
        return  # It was killed before its first checkpoint: there is nothing to go on with.
    sessions = sum(e["kind"] == "run_started" for e in json_records(run_dir / EVENTS_FILE))
    options = dict(faults.STARTS[life.start].options) if life.start else {}
    began = time.monotonic()
    if saved is None:
        run = ChaosRun.fresh(run_dir, **options)
    elif life.ending is None:
        total = str(saved.timestep + LAST_TIMESTEPS)
        run = ChaosRun.resumed(run_dir, "--total-timesteps", total, **options)
    else:
        run = ChaosRun.resumed(run_dir, **options)
    try:
        yield from _start(run, life.start, damaged, saved, rng, began, sessions)
        yield from _hurt(run, life.live, rng, memory)
        if run.process.poll() is None or life.ending is None:
            last = _end(run, life.ending, rng, memory)
            yield last
            if last.outcome == "hung":
                raise Stop
    finally:
        run.destroy()


def _checked(injected: Injected, act: Callable[[Injected], None]) -> Injected:
    """Runs what injects and checks a fault; a wait that ends in vain is a violation too."""
    began = time.monotonic()
    try:
        act(injected)
    except (AssertionError, HasEnded) as error:
        injected.outcome = "hung" if isinstance(error, AssertionError) else "ended"
        injected.violations.append(str(error))
    injected.seconds = round(time.monotonic() - began, 1)
    return injected


def _end_early(run_dir: Path, name: str, rng: random.Random, memory: frozenset[str]) -> Injected:
    """Starts a run and sends it a signal at any moment of its start."""
    signum, codes = faults.EARLY[name]
    run = ChaosRun.resumed(run_dir)

    def act(injected: Injected) -> None:
        time.sleep(rng.uniform(0.0, EARLY_S))
        send(run.pid, signum)
        injected.outcome = f"ended, {run.wait_end()}"
        injected.violations = _left(run, memory, codes, must_be_saved=True)

    try:
        return _checked(Injected(name), act)
    finally:
        run.destroy()


def _diverge(run_dir: Path, name: str, rng: random.Random, memory: frozenset[str]) -> Injected:
    """Goes on with a learning rate that makes all updates infinite, until the run gives up."""
    run = ChaosRun.resumed(
        run_dir, settings=("learner.learning_rate=3e38", "learner.lr_schedule=constant")
    )

    def act(injected: Injected) -> None:
        injected.outcome = f"ended, {run.wait_end()}"
        injected.violations = _left(run, memory, frozenset({2}), must_be_saved=True)

    try:
        return _checked(Injected(name), act)
    finally:
        run.destroy()


def _damage(run_dir: Path, names: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Damages a run that has ended; leaves one checkpoint that can be used."""
    for name in names:
        num_saved = len(list((run_dir / CHECKPOINTS_DIR).glob("step-*")))
        if name in faults.TAKES_A_CHECKPOINT and num_saved < 2:
            continue
        try:
            faults.DAMAGES[name](run_dir, rng)
        except FileNotFoundError:
            continue  # The damage before has taken the file.
        yield name


def _start(
    run: ChaosRun,
    start: str | None,
    damaged: Sequence[str],
    saved: Checkpoint | None,
    rng: random.Random,
    began: float,
    sessions: int,
) -> Iterator[Injected]:
    """Waits until the run trains, and yields the faults of its start."""

    def act(injected: Injected) -> None:
        # By then the records are cut to the checkpoint; before, updates cannot be counted.
        run.wait_for(lambda: len(run.events("run_started")) > sessions, "a session")
        run.wait_updates(2)
        if start and (then := faults.STARTS[start].then):
            then(run, rng)
            run.wait_updates(2)
        injected.outcome = "began" if saved is None else "resumed"
        at = run.events("run_started")[-1]["timestep"]
        if saved is not None and at != saved.timestep:
            injected.violations.append(f"resumed from {at}, the newest is {saved.timestep}")
        injected.violations += violations(run.run_dir, must_be_saved=saved is not None)

    first = _checked(Injected(""), act)
    if first.outcome == "ended":
        first.outcome = "did not start"
        cause = run.errors()[-500:] or run.said.decode(errors="replace")
        first.violations.append(cause)
        if OVERLOADED in " ".join(cause.split()) and run.process.returncode == 2:
            # A machine with too much other work; the run has said so in its one line.
            first.outcome, first.violations = "Ray did not start in time", []
    first.seconds = round(time.monotonic() - began, 1)
    names = [*damaged, *([start] if start else [])]
    for place, name in enumerate(names or ([START] if first.violations else [])):
        told = first.violations if place == 0 else []
        yield Injected(name, first.outcome, told, first.seconds)
    if first.outcome not in ("began", "resumed"):
        raise Stop


def _hurt(
    run: ChaosRun, names: Sequence[str], rng: random.Random, memory: frozenset[str]
) -> Iterator[Injected]:
    """Injects faults that the run must survive, one after the other, while it does."""

    def act(injected: Injected) -> None:
        try:
            faults.LIVE[injected.fault](run, rng)
            run.wait_updates(3)
        except HasEnded:
            injected.outcome = f"ended, {run.wait_end()}"
            codes = faults.MAY_END_BY.get(injected.fault, frozenset())
            injected.violations = _left(run, memory, codes, must_be_saved=False)
            return
        injected.outcome = "went on"
        is_saved = bool(run.events("checkpoint_saved"))
        injected.violations = violations(run.run_dir, must_be_saved=is_saved)
        injected.violations += _too_many(run)

    for name in names:
        time.sleep(rng.uniform(0.0, 1.5))
        injected = _checked(Injected(name), act)
        yield injected
        if injected.outcome == "hung":
            raise Stop
        if injected.outcome != "went on":
            return


def _too_many(run: ChaosRun) -> list[str]:
    """Returns the roles of which more processes stay than the run has places for."""
    limits = {"actor": NUM_ACTORS, "learner": 1, "evaluator": 1}
    deadline = time.monotonic() + 30
    while True:
        found = {role: len(run.pids(role)) for role in limits}
        over = [role for role, limit in limits.items() if found[role] > limit]
        if not over or time.monotonic() > deadline:
            return [f"{found[role]} processes of the role {role}" for role in over]
        time.sleep(0.2)


def _end(run: ChaosRun, name: str | None, rng: random.Random, memory: frozenset[str]) -> Injected:
    """Injects the fault that ends the run, or waits for its end, and checks what it leaves."""

    def act(injected: Injected) -> None:
        codes, is_saved = frozenset({0}), True
        had_saved = bool(run.events("checkpoint_saved"))
        if name:
            ending = faults.ENDINGS[name]
            codes, is_saved = ending.codes, ending.is_saved
            ending.act(run, rng)
        injected.outcome = f"ended, {run.wait_end()}"
        injected.violations = _left(run, memory, codes, must_be_saved=had_saved)
        if is_saved:
            injected.violations += _unsaved(run)

    return _checked(Injected(name or END), act)


# ---- what an end leaves behind ----


def _left(
    run: ChaosRun, memory: frozenset[str], codes: frozenset[int], *, must_be_saved: bool
) -> list[str]:
    """Returns what is wrong after the end of a run's process."""
    found = []
    code, errors = run.process.returncode, run.errors()
    if code not in codes:
        found.append(f"exit code {code}, expected one of {sorted(codes)}: {errors[-500:]}")
    elif "Traceback" in errors:
        found.append(f"a traceback on standard error: {errors[-500:]}")
    elif code == 2 and len(errors.splitlines()) > 1:
        found.append(f"{len(errors.splitlines())} lines on standard error: {errors[-500:]}")
    found += [f"still lives after 30 s: {name}" for name in run.orphans()]
    found += [f"left in shared memory: {name}" for name in leaked_shared_memory(memory)]
    found += violations(run.run_dir, must_be_saved=must_be_saved)
    found += not_finite(run.run_dir)
    return found


def _unsaved(run: ChaosRun) -> list[str]:
    """Returns what is wrong with a run that had to save its newest update."""
    found = []
    saved = newest_usable(run.run_dir)
    have = 0 if saved is None else saved.timestep
    on_record = [0, *(r["timestep"] for r in json_records(run.run_dir / METRICS_FILE))]
    may_lack = faults.LAST_UPDATES if run.process.returncode in (1, -signal.SIGKILL) else 0
    if have not in on_record[-1 - may_lack :]:
        found.append(f"timestep {on_record[-1]} is on record, the newest checkpoint has {have}")
    if json_records(run.run_dir / EVENTS_FILE)[-1]["kind"] != "run_ended":
        found.append("events.jsonl does not end with run_ended")
    return found
