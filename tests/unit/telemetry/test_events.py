"""The event bus: every subscriber gets each event, none can stop the run, closing is bounded."""

import dataclasses
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from keisei_ray.telemetry import events as ev

PATIENCE_S = 10.0


def test_every_subscriber_gets_every_event_in_the_order_of_publishing() -> None:
    bus, seen = ev.EventBus(), []
    bus.subscribe("a", lambda event: seen.append(("a", event)))
    bus.subscribe("b", lambda event: seen.append(("b", event)))
    first, second = ev.Notice("first"), ev.Notice("second")
    bus.publish(first)
    bus.publish(second)
    assert seen == [("a", first), ("b", first), ("a", second), ("b", second)]


def test_a_raising_subscriber_is_logged_and_counted_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = ev.EventBus()
    seen: list[Any] = []

    def broken(event: ev.Event) -> None:
        raise LookupError(event.kind)

    bus.subscribe("broken", broken)
    bus.subscribe("whole", seen.append)
    for i in range(5):
        bus.publish(ev.Notice(str(i)))
    assert [event.message for event in seen] == ["0", "1", "2", "3", "4"]
    assert bus.failures == {"broken": 5}
    tracebacks = [r.exc_info for r in caplog.records if r.levelno == logging.WARNING]
    assert len(tracebacks) == ev.WARNINGS_PER_SUBSCRIBER
    assert all(info and info[0] is LookupError for info in tracebacks)
    assert len(caplog.records) <= 5


def test_failures_of_two_subscribers_are_counted_apart() -> None:
    bus = ev.EventBus()
    bus.subscribe("a", lambda event: 1 / 0)
    bus.subscribe("b", lambda event: 1 / 0 if event.kind == "run_ended" else None)
    bus.publish(ev.Notice("x"))
    bus.publish(ev.RunEnded("done", 1, None, 1.0))
    assert bus.failures == {"a": 2, "b": 1}


def test_an_event_published_by_a_subscriber_reaches_all_in_one_order() -> None:
    bus = ev.EventBus()
    seen: dict[str, list[str]] = {"early": [], "late": []}

    def early(event: ev.Event) -> None:
        seen["early"].append(event.kind)
        if isinstance(event, ev.CheckpointSaved):
            bus.publish(ev.Notice("uploaded"))

    bus.subscribe("early", early)
    bus.subscribe("late", lambda event: seen["late"].append(event.kind))
    bus.publish(ev.CheckpointSaved("c", 1))
    assert seen["early"] == seen["late"] == ["checkpoint_saved", "notice"]


def test_events_from_several_threads_are_delivered_one_at_a_time() -> None:
    bus, busy, overlaps, count = ev.EventBus(), threading.Lock(), [], []

    def handle(event: ev.Event) -> None:
        if not busy.acquire(blocking=False):
            overlaps.append(event)
            return
        count.append(event)
        time.sleep(0)
        busy.release()

    def publish_many() -> None:
        for i in range(200):
            bus.publish(ev.Notice(str(i)))

    bus.subscribe("one", handle)
    threads = [threading.Thread(target=publish_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(count), overlaps) == (800, [])


def test_publishing_returns_once_all_have_the_event_also_from_a_second_thread() -> None:
    bus, seen = ev.EventBus(), []
    is_inside, gate = threading.Event(), threading.Event()

    def handle(event: ev.Event) -> None:
        is_inside.set()
        gate.wait()
        seen.append(event)

    bus.subscribe("slow", handle)
    first = threading.Thread(target=bus.publish, args=(ev.Notice("first"),))
    second = threading.Thread(target=bus.publish, args=(ev.Notice("second"),))
    first.start()
    is_inside.wait()
    second.start()
    second.join(timeout=0.2)
    is_waiting = second.is_alive()
    gate.set()
    first.join()
    second.join()
    assert is_waiting
    assert seen == [ev.Notice("first"), ev.Notice("second")]


def test_a_subscriber_that_sleeps_for_ever_holds_up_nobody_and_what_it_misses_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, hang, seen = ev.EventBus(), threading.Event(), list[ev.Event]()
    bus.add(ev.Subscriber("sleeper", lambda event: hang.wait(), num_waiting=3))
    bus.subscribe("other", seen.append)
    told = [ev.RolloutArrived(0, 0, 0, number) for number in range(10)]
    for event in told:
        bus.publish(event)
    late = bus.close(timeout_s=0.2)
    hang.set()
    assert [event for event in seen if event in told] == told
    (notice,) = [event for event in seen if isinstance(event, ev.Notice)]
    assert (notice.level, "sleeper" in notice.message) == ("WARNING", True)
    assert late == ("sleeper",)
    (missed,) = [r.args for r in caplog.records if "missed" in r.message]
    assert missed == ("sleeper", len(seen) - 1)


def test_a_subscriber_with_a_queue_gets_all_events_in_order_and_is_closed_after_the_last() -> None:
    bus, seen, go = ev.EventBus(), list[object](), threading.Event()

    def handle(event: ev.Event) -> None:
        go.wait(PATIENCE_S)
        seen.append(event)

    bus.add(ev.Subscriber("queued", handle, lambda: seen.append("closed"), num_waiting=500))
    told = [ev.Notice(str(number)) for number in range(300)]
    for event in told:
        bus.publish(event)
    closing = threading.Thread(target=bus.close, args=(PATIENCE_S,))
    closing.start()
    closing.join(timeout=0.1)
    go.set()
    closing.join()
    assert seen == [*told, "closed"]


def test_failures_of_a_subscriber_with_a_queue_are_counted_like_those_of_others() -> None:
    bus = ev.EventBus()
    bus.add(ev.Subscriber("broken", lambda event: 1 / 0, num_waiting=10))
    for _ in range(3):
        bus.publish(ev.Notice("x"))
    bus.close(PATIENCE_S)
    assert bus.failures == {"broken": 3}


def test_flushing_waits_for_those_that_write_and_survives_their_errors() -> None:
    bus, flushed = ev.EventBus(), list[float]()
    bus.add(ev.Subscriber("broken", lambda event: None, flush=lambda timeout_s: 1 / 0))
    bus.add(ev.Subscriber("writer", lambda event: None, flush=flushed.append))
    bus.subscribe("other", lambda event: None)
    bus.flush(1.5)
    assert (flushed, bus.failures) == ([1.5], {"broken": 1})


def test_an_interrupt_inside_a_subscriber_passes_through() -> None:
    bus = ev.EventBus()

    def interrupted(event: ev.Event) -> None:
        raise KeyboardInterrupt

    bus.subscribe("a", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.publish(ev.Notice("x"))
    assert bus.failures == {}


def test_closing_does_not_wait_for_a_close_that_hangs() -> None:
    bus, hold, closed = ev.EventBus(), threading.Event(), threading.Event()
    bus.subscribe("hanging", lambda event: None, hold.wait)
    bus.subscribe("good", lambda event: None, closed.set)
    began = time.monotonic()
    late = bus.close(timeout_s=0.3)
    took = time.monotonic() - began
    hold.set()
    assert late == ("hanging",)
    assert closed.is_set()
    assert bus.failures == {"hanging": 1}
    assert 0.25 < took < 2.0


def test_the_limit_holds_for_all_hanging_closes_together_and_off_the_main_thread() -> None:
    bus, hold = ev.EventBus(), threading.Event()
    late: list[str] = []
    for i in range(10):
        bus.subscribe(str(i), lambda event: None, hold.wait)
    closer = threading.Thread(target=lambda: late.extend(bus.close(timeout_s=0.3)))
    closer.start()
    closer.join(timeout=2.4)  # One limit after the other would take 3 seconds.
    is_closed = not closer.is_alive()
    hold.set()
    assert is_closed
    assert late == [str(i) for i in range(10)]


def test_a_process_ends_though_a_subscriber_hangs_forever_on_closing() -> None:
    program = (
        "import threading\n"
        "from keisei_ray.telemetry.events import EventBus, Notice\n"
        "bus = EventBus()\n"
        "bus.subscribe('tracker', lambda event: None, threading.Event().wait)\n"
        "bus.publish(Notice('x'))\n"
        "print(bus.close(0.2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "('tracker',)"


def test_a_raising_close_is_counted_and_the_others_are_closed() -> None:
    bus, closed = ev.EventBus(), []
    bus.subscribe("broken", lambda event: None, lambda: 1 / 0)
    bus.subscribe("good", lambda event: None, lambda: closed.append(True))
    assert bus.close(5.0) == ()
    assert (bus.failures, closed) == ({"broken": 1}, [True])


def test_closing_twice_closes_once_and_a_closed_bus_refuses_events() -> None:
    bus, closed = ev.EventBus(), []
    bus.subscribe("a", lambda event: None, lambda: closed.append(True))
    bus.close(5.0)
    bus.close(5.0)
    assert closed == [True]
    with pytest.raises(RuntimeError, match="notice"):
        bus.publish(ev.Notice("too late"))


def test_a_name_is_taken_once() -> None:
    bus = ev.EventBus()
    bus.subscribe("a", lambda event: None)
    with pytest.raises(ValueError, match="'a'"):
        bus.subscribe("a", lambda event: None)


def test_events_are_frozen_and_named_after_their_class() -> None:
    kinds = {
        ev.RunStarted: "run_started",
        ev.ActorReady: "actor_ready",
        ev.ActorLost: "actor_lost",
        ev.ClusterChanged: "cluster_changed",
        ev.RolloutArrived: "rollout_arrived",
        ev.RolloutRejected: "rollout_rejected",
        ev.GameFinished: "game_finished",
        ev.UpdateFinished: "update_finished",
        ev.UpdateUndone: "update_undone",
        ev.UpdateDiagnosed: "update_diagnosed",
        ev.CheckpointSaved: "checkpoint_saved",
        ev.EvaluationFinished: "evaluation_finished",
        ev.RatingsFitted: "ratings_fitted",
        ev.Notice: "notice",
        ev.RunEnded: "run_ended",
    }
    assert set(kinds) == set(ev.Event.__subclasses__())
    assert {cls: vars(cls)["kind"] for cls in kinds} == kinds
    with pytest.raises(dataclasses.FrozenInstanceError):
        ev.Notice("x").message = "y"  # type: ignore[misc]
