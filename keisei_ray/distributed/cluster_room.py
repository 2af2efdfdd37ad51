"""Room on a cluster that several share: what is free, and which other runs hold the rest.

Ray places what does not fit as soon as there is room, and says nothing meanwhile.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import state as ray_state
from ray._private import worker as ray_worker

from keisei_ray.distributed.actors import EvaluationShell, LearnerShell, SelfPlayShell
from keisei_ray.distributed.cluster import RUN_DIR_KEY

FIRST_S = 3.0
"""Seconds of waiting after which it is said."""
AGAIN_S = 120.0
"""Seconds after which it is said again; twice as many each further time, up to MAX_AGAIN_S."""
MAX_AGAIN_S = 1800.0
KINDS = {
    LearnerShell.__name__: "learner",
    SelfPlayShell.__name__: "self-play actor",
    EvaluationShell.__name__: "evaluator",
}
"""Class of an actor -> the word for it; those of other programs are actors."""


@dataclass(frozen=True)
class Holder:
    """Another driver on the cluster, and the number of its actors by kind."""

    name: str
    node: str
    """Address of the driver's node."""
    pid: int
    actors: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        """Returns a clause such as `run first on 192.0.2.1, process 71: 1 learner, 3 actors`."""
        held = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in self.actors)
        return f"{self.name} on {self.node}, process {self.pid} ({held})"


def holders() -> list[Holder]:
    """Returns the other drivers on the cluster that have actors, the oldest first."""
    worker: Any = ray_worker.global_worker
    jobs = worker.gcs_client.get_all_job_info(
        skip_submission_job_info_field=True, skip_is_running_tasks_field=True
    )
    own = ray.get_runtime_context().get_job_id()
    found = []
    for job in sorted(jobs.values(), key=lambda job: job.start_time):
        job_id = job.job_id.hex()
        if job.is_dead or job_id == own:
            continue
        alive = ray_state.actors(job_id=ray.JobID(job.job_id), actor_state_name="ALIVE")
        kinds = Counter(KINDS.get(actor["ActorClassName"], "actor") for actor in alive.values())
        run_dir = job.config.metadata.get(RUN_DIR_KEY)
        name = f"run {run_dir}" if run_dir else f"Ray job {job_id}"
        if kinds:
            address = job.driver_address.ip_address
            found.append(Holder(name, address, job.driver_pid, tuple(sorted(kinds.items()))))
    return found


def free_cpus() -> float:
    """Returns the CPUs of the cluster that nothing has reserved."""
    return max(0.0, float(ray.available_resources().get("CPU", 0.0)))


def describe_room(asks: str, others: list[Holder]) -> str:
    """Returns a sentence with what is asked for, what is free, and who holds the rest.

    Args:
        asks: what is asked for, such as `the learner asks for 1 CPU`.
        others: the other drivers on the cluster.
    """
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [
        f"{max(0.0, free.get(name, 0.0)):.4g} of {total[name]:g} {name}s"
        for name in ("CPU", "GPU")
        if total.get(name)
    ]
    held = "; ".join(map(str, others)) or "no other driver that has actors"
    return f"{asks}; free are {', '.join(parts) or 'no CPUs'}. On the cluster: {held}"


class RoomNotice:
    """Says that something waits for room on the cluster: soon, and rarely from then on."""

    def __init__(
        self,
        publish: Callable[[str], object],
        *,
        clock: Callable[[], float],
        look: Callable[[], list[Holder]] = holders,
        describe: Callable[[str, list[Holder]], str] = describe_room,
    ) -> None:
        """Args:
        publish: gets each sentence.
        clock: monotonic seconds.
        look: returns the other drivers on the cluster.
        describe: makes the sentence, see `describe_room`.
        """
        self._publish = publish
        self._clock = clock
        self._look = look
        self._describe = describe
        self._next_at: float | None = None
        """When to say it (again); None while nothing waits."""
        self._pause_s = AGAIN_S

    def poll(self, asks: str | None) -> None:
        """Notes whether something waits now; says so when it is time.

        Nothing is said while no other driver has actors: what waits is about to start.

        Args:
            asks: what is asked for; None: nothing waits.
        """
        if asks is None:
            self._next_at, self._pause_s = None, AGAIN_S
            return
        now = self._clock()
        if self._next_at is None:
            self._next_at = now + FIRST_S
        if now < self._next_at:
            return
        others = self._look()
        if others:
            self._publish(f"waiting for room on the cluster: {self._describe(asks, others)}")
            self._next_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, MAX_AGAIN_S)
        else:
            self._next_at = now + FIRST_S
