"""Notices of a run while Ray writes objects to disk."""

from keisei_ray.distributed.spilling import Spilled, SpillNotice, telling_of_spilling
from tests.helpers.waiting import wait_until

MIB = 2**20


def test_it_is_told_once_and_again_when_ten_times_as_much_is_on_disk() -> None:
    looks: list[Spilled | None] = [
        Spilled(7, 70 * MIB),  # Of another run, before this one began.
        Spilled(7, 70 * MIB),
        None,  # A node that does not answer.
        Spilled(9, 72 * MIB),
        Spilled(10, 80 * MIB),
        Spilled(40, 90 * MIB),
    ]
    said: list[str] = []
    left = iter(looks)
    notice = SpillNotice(said.append, lambda: next(left))
    counts = []
    for _ in looks:
        notice.poll()
        counts.append(len(said))
    assert counts == [0, 0, 0, 1, 1, 2]
    assert "2 objects (2 MiB) were written to disk" in said[0]
    assert "33 objects (20 MiB)" in said[1]


def test_a_run_looks_from_its_start_on() -> None:
    looked: list[int] = []

    def look() -> Spilled:
        looked.append(1)
        return Spilled()

    with telling_of_spilling(lambda text: None, look):
        wait_until(lambda: looked)
