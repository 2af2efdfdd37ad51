"""Moments at which a test kills a driver: just before or just after a call of one of its functions.

`kill -9` from outside comes at a random moment. Here the driver kills itself, so that a moment that
lasts microseconds is met every time.
"""

import importlib
import itertools
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.telemetry.events import Event
from tests.helpers.program import PATIENCE_S, ROOT, start_program

SUBSCRIBER: Final = "tests.helpers.kill_moments:KillAt"


@dataclass(frozen=True)
class Moment:
    """A moment in the work of a driver."""

    name: str
    function: str
    """The function, as `package.module:Class.function`."""
    call: int
    """Number of the call in the life of the process, from 1."""
    is_after: bool = False
    """Whether the call has returned."""


_TAKE: Final = "training.driver:Driver._take_rollout"
_UPDATE: Final = "distributed.learner_handle:LearnerHandle.update"
_MADE: Final = "distributed.learner_handle:LearnerHandle.take_report"
_COUNT: Final = "telemetry.progress:Progress.finish_update"
_RECORD: Final = "training.driver:Driver._record"
_LINE: Final = "storage.json_lines_writer:JsonLinesWriter.append_line"
_SNAPSHOT: Final = "distributed.pool_handle:PoolHandle._write"
_SAVE: Final = "training.background_save:BackgroundSave.begin"
_PLACE: Final = "storage.checkpoint:_put_in_place"
_MATCH: Final = "distributed.evaluation_handle:EvaluationHandle._start"
_RESULT: Final = "distributed.evaluation_handle:EvaluationHandle._take"
_CUT: Final = "storage.json_lines_writer:_mend"
_LAUNCH: Final = "distributed.learner_handle:LearnerHandle.launch"

MOMENTS: Final[Mapping[str, Sequence[Moment]]] = {
    "an update": (
        Moment("a rollout is here and not taken", _TAKE, 9),
        Moment("a rollout waits for its update", _TAKE, 11, is_after=True),
        Moment("an update is under way", _UPDATE, 5, is_after=True),
        Moment("an update is made and not published", _MADE, 5, is_after=True),
        Moment("an update is not counted", _RECORD, 5),
        Moment("an update is not recorded", _COUNT, 5, is_after=True),
        Moment("a part of an update is on record", _LINE, 40, is_after=True),
        Moment("weights are published", _RECORD, 5, is_after=True),
        Moment("a snapshot has joined the pool", _SNAPSHOT, 2, is_after=True),
    ),
    "a checkpoint": (
        Moment("a save has begun", _SAVE, 2, is_after=True),
        Moment("some files are written", "storage.checkpoint:write_synced", 10),
        Moment("the manifest is not written", "storage.checkpoint:manifest_bytes", 2),
        Moment("all is written and not in place", _PLACE, 2),
        Moment("it is in place", _PLACE, 2, is_after=True),
        Moment("older ones are not pruned", "storage.checkpoint:places_to_prune", 3),
        Moment("it is not announced", "training.background_save:SavedState", 2),
    ),
    "a match or a start": (
        Moment("a match is under way", _MATCH, 1, is_after=True),
        Moment("one of the records is cut for a resume", _CUT, 1, is_after=True),
        Moment("a resume has no learner", _LAUNCH, 1),
        Moment("a match is over", _RESULT, 1, is_after=True),
    ),
}
"""Moments of a run, in the order in which a test takes them, by the work that they lie in."""


class KillAt:
    """Subscriber that does nothing with events; being made, it has its process die at a moment."""

    class Settings(BaseModel):
        """The moment's fields."""

        name: str
        function: str
        call: int
        is_after: bool

    def __init__(self, moment: Settings) -> None:
        module, _, place = moment.function.partition(":")
        *owners, name = place.split(".")
        owner: Any = importlib.import_module(f"keisei_ray.{module}")
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, name, _deadly(getattr(owner, name), moment.call, moment.is_after))

    def __call__(self, event: Event) -> None:
        """Does nothing."""


def _deadly(function: Callable[..., Any], call: int, is_after: bool) -> Callable[..., Any]:
    """Returns a function that does the same, and kills its process at one of the calls."""
    calls = itertools.count(1)

    @wraps(function)
    def call_or_die(*args: Any, **kwargs: Any) -> Any:
        is_last = next(calls) == call
        if is_last and not is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call_or_die


def killed_at(moment: Moment, arguments: list[str], cluster: Cluster, cwd: Path) -> None:
    """Runs `run.py` until it kills itself.

    Args:
        moment: when.
        arguments: command line.
        cluster: what the run joins.
        cwd: its working directory.
    """
    process = start_program(
        *arguments,
        *("--set", f"tracking.subscribers=[{json.dumps({SUBSCRIBER: asdict(moment)})}]"),
        cwd=cwd,
        cluster=cluster,
        PYTHONPATH=str(ROOT),
    )
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, f"{moment.name}: {errors}"
