"""A bounded queue of calls with a thread of its own."""

import threading

from keisei_ray.telemetry.call_queue import CallQueue
from tests.helpers.waiting import wait_until

PATIENCE_S = 10.0


def test_calls_are_made_in_order_and_a_full_queue_refuses() -> None:
    go, made = threading.Event(), list[int]()
    calls = CallQueue("test", 3)
    calls.put(lambda: go.wait(PATIENCE_S))
    wait_until(lambda: calls.waiting == 0)
    taken = [calls.put(lambda n=n: made.append(n)) for n in range(5)]  # type: ignore[misc]
    go.set()
    assert calls.close(PATIENCE_S)
    assert taken == [True, True, True, False, False]
    assert (made, calls.refused) == ([0, 1, 2], 2)
