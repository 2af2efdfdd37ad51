"""Notices on a cluster without room: what is asked for, what is free, which runs hold the rest."""

from types import SimpleNamespace as Record

import pytest

from keisei_ray.distributed import cluster_room
from keisei_ray.distributed.cluster_room import Holder, RoomNotice, describe_room, holders

FIRST = Holder("run /runs/first", "192.0.2.1", 71, (("learner", 1), ("self-play actor", 3)))


class Waiting:
    """A `RoomNotice` under a clock of the test's, and what it says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[tuple[float, str]] = []
        self.others = [FIRST]
        self.notice = RoomNotice(
            lambda text: self.said.append((self.now, text)),
            clock=lambda: self.now,
            look=lambda: self.others,
            describe=lambda asks, others: f"{asks} {len(others)}",
        )

    def poll_until(self, end: float, asks: str | None = "a CPU") -> None:
        while self.now < end:
            self.notice.poll(asks)
            self.now += 0.5


def test_a_wait_is_told_within_seconds_and_rarely_from_then_on() -> None:
    waiting = Waiting()
    waiting.poll_until(2000)
    times = [time for time, _ in waiting.said]
    assert times == [3.0, 123.0, 363.0, 843.0, 1803.0]
    assert waiting.said[0][1] == "waiting for room on the cluster: a CPU 1"


def test_a_second_wait_is_told_as_soon_as_the_first() -> None:
    waiting = Waiting()
    waiting.poll_until(10)
    waiting.poll_until(12, None)
    waiting.poll_until(20)
    assert [time for time, _ in waiting.said] == [3.0, 15.0]


def test_nothing_is_told_where_no_other_driver_holds_anything() -> None:
    waiting = Waiting()
    waiting.others = []
    waiting.poll_until(60)
    assert waiting.said == []
    waiting.others = [FIRST]
    waiting.poll_until(64)
    assert len(waiting.said) == 1


def test_the_sentence_names_what_is_free_and_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Record(
        cluster_resources=lambda: {"CPU": 16.0, "memory": 1.0},
        available_resources=lambda: {"CPU": 0.5},
    )
    monkeypatch.setattr(cluster_room, "ray", fake)
    assert describe_room("the learner asks for 1 CPU", [FIRST]) == (
        "the learner asks for 1 CPU; free are 0.5 of 16 CPUs. On the cluster: run /runs/first on "
        "192.0.2.1, process 71 (1 learner, 3 self-play actors)"
    )
    fake.available_resources = dict  # As Ray says of a cluster with nothing left.
    assert "free are 0 of 16 CPUs" in describe_room("x", [])
    assert cluster_room.free_cpus() == 0


def test_holders_are_the_other_living_drivers_with_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    def job(number: int, *, is_dead: bool = False, run_dir: str | None = None) -> Record:
        return Record(
            job_id=number.to_bytes(4, "big"),
            is_dead=is_dead,
            start_time=number,
            driver_pid=70 + number,
            driver_address=Record(ip_address="192.0.2.1"),
            config=Record(metadata={"keisei_ray_run_dir": run_dir} if run_dir else {}),
        )

    jobs = [job(4), job(1, run_dir="/runs/first"), job(2, is_dead=True), job(3, run_dir="/me")]
    actors = {
        1: ["SelfPlayShell"] * 3 + ["LearnerShell"],
        3: ["LearnerShell"],
        4: ["Server"],
        5: [],
    }
    client = Record(get_all_job_info=lambda **_: dict(enumerate([*jobs, job(5)])))
    monkeypatch.setattr(cluster_room, "ray_worker", Record(global_worker=Record(gcs_client=client)))
    monkeypatch.setattr(
        cluster_room,
        "ray",
        Record(
            get_runtime_context=lambda: Record(get_job_id=lambda: "00000003"),
            JobID=lambda raw: int.from_bytes(raw, "big"),
        ),
    )

    def alive(job_id: int, actor_state_name: str) -> dict[str, dict[str, str]]:
        assert actor_state_name == "ALIVE"
        return {str(i): {"ActorClassName": name} for i, name in enumerate(actors[job_id])}

    monkeypatch.setattr(cluster_room, "ray_state", Record(actors=alive))
    assert holders() == [
        FIRST,
        Holder("Ray job 00000004", "192.0.2.1", 74, (("actor", 1),)),
    ]
