"""Stage timers, and the stages of an update and of a rollout."""

import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest

from keisei_ray.learning.learner import Learner
from keisei_ray.players import acting
from keisei_ray.selfplay import pairing, self_play
from keisei_ray.selfplay.opponent_mix import OpponentMix
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.telemetry.diagnostics import diagnose
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.stage_timer import StageTimer
from tests.helpers.tiny import T, tiny_config


def test_stages_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timer = StageTimer()
    for stage in ("a", "b", "a"):
        timer.end_stage(stage)
    assert timer.seconds == {"a": 5.0, "b": 2.0}


def test_the_stages_of_an_update_and_a_rollout_are_nearly_all_of_their_time() -> None:
    """The rest is small: building a report, a digest."""
    config = tiny_config(pool={"share": 1.0, "members": ["random"]})
    learner = Learner(config)
    actor = SelfPlay(config, 0, 0)
    actor.set_weights(learner.weights())
    collected, packed = actor.collect()
    report = learner.update([packed], 0)
    for stages, whole_s, count in (
        (asdict(collected.stages), collected.collect_time_s, 5),
        (asdict(report.stages), report.update_time_s, 4),
    ):
        assert len(stages) == count
        assert all(seconds > 0 for seconds in stages.values())
        assert 0.8 * whole_s < sum(stages.values()) <= whole_s
    found = diagnose(Progress(), report, [collected])
    assert found.forward_time_s == collected.stages.forward_time_s
    assert found.gradients_time_s == report.stages.gradients_time_s


def test_each_part_of_a_rollout_is_counted_as_its_own_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time stands still but for one part, which takes a second each time."""
    parts = {
        (acting, "network_outputs"): ("forward_time_s", T + 1),
        (acting, "sample_legal"): ("sample_time_s", T),
        (self_play, "pack_rollout"): ("pack_time_s", 1),
    }
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    config = tiny_config()
    weights = Learner(config).weights()
    for (module, part), (stage, calls) in parts.items():
        real = getattr(module, part)

        def takes_a_second(*args: Any, real: Any = real, **named: Any) -> Any:
            now[0] += 1.0
            return real(*args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(module, part, takes_a_second)
            actor = SelfPlay(config, 0, 0)
            actor.set_weights(weights)
            stages = asdict(actor.collect()[0].stages)
        assert stages[stage] == calls
        assert sum(stages.values()) == calls


def test_asking_and_waiting_for_a_snapshot_is_opponents_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time stands still but for its network: each question takes a second, each answer ten."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    calls: Counter[str] = Counter()

    class SlowNetwork(acting.ActingNetwork):
        def begin(self, *args: Any) -> None:
            calls["begin"] += 1
            now[0] += 1.0
            super().begin(*args)

        def finish(self) -> acting.Chosen:
            calls["finish"] += 1
            now[0] += 10.0
            return super().finish()

    monkeypatch.setattr(pairing, "acting_network", lambda model, *_, **__: SlowNetwork(model))
    config = tiny_config(pool={"share": 1.0})
    actor = SelfPlay(config, 0, 0)
    weights = Learner(config).weights()
    actor.set_weights(weights)
    mix = OpponentMix(1.0, (("v0", 1.0),), ("v0",))
    stages = asdict(actor.collect(mix, [weights])[0].stages)
    assert calls["begin"] == calls["finish"] > 1
    assert stages.pop("opponents_time_s") == calls["begin"] + 10 * calls["finish"]
    assert not any(stages.values())
