"""Stage timers, and torch.profiler around the calls that the settings name."""

import gzip
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from keisei_ray.config.sections import ProfileConfig
from keisei_ray.learning.learner import Learner
from keisei_ray.selfplay import self_play
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.diagnostics import Diagnostics, diagnose
from keisei_ray.telemetry.profiler import CallProfiler
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import Trace
from keisei_ray.telemetry.stage_timer import StageTimer
from keisei_ray.tracking.profile_files import ProfileFiles
from tests.helpers.tiny import T, tiny_config


def test_stages_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timer = StageTimer()
    for stage in ("a", "b", "a"):
        timer.end_stage(stage)
    assert timer.seconds == {"a": 5.0, "b": 2.0}


def test_the_stages_of_an_update_and_a_rollout_are_nearly_all_of_their_time() -> None:
    """What is left out is made of small things: building a report, a digest."""
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
        "network_outputs": ("forward_time_s", T + 1),
        "sample_legal": ("sample_time_s", T),
        "pack_rollout": ("pack_time_s", 1),
    }
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    config = tiny_config()
    weights = Learner(config).weights()
    for part, (stage, calls) in parts.items():
        real = getattr(self_play, part)

        def takes_a_second(*args: Any, real: Any = real, **named: Any) -> Any:
            now[0] += 1.0
            return real(*args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(self_play, part, takes_a_second)
            actor = SelfPlay(config, 0, 0)
            actor.set_weights(weights)
            stages = asdict(actor.collect()[0].stages)
        assert stages[stage] == calls
        assert sum(stages.values()) == calls


def traced_sum(number: int) -> float:
    return torch.ones(3).cumsum(0).sum().item() + number


def test_the_calls_that_the_settings_name_are_traced_and_no_others() -> None:
    profiler = CallProfiler("work", ProfileConfig(updates=2, first_update=2))
    done = [profiler.run(partial(traced_sum, i)) for i in range(4)]
    assert [result for result, _ in done] == [6.0, 7.0, 8.0, 9.0]
    traced = [trace for _, trace in done]
    assert [t.name if t else None for t in traced] == [
        None, "work-000002.json", "work-000003.json", None
    ]  # fmt: skip
    assert traced[1] is not None
    events = json.loads(gzip.decompress(traced[1].content))["traceEvents"]
    assert "aten::cumsum" in {event["name"] for event in events}


def test_nothing_is_traced_unless_it_is_asked_for() -> None:
    profiler = CallProfiler("work", ProfileConfig())
    assert all(profiler.run(lambda: 1) == (1, None) for _ in range(10))


def test_traces_become_files_and_without_any_there_is_no_directory(tmp_path: Path) -> None:
    files = ProfileFiles(tmp_path)
    found = diagnose_nothing()
    files.handle(ev.UpdateDiagnosed(found))
    assert list(tmp_path.iterdir()) == []
    files.handle(ev.UpdateDiagnosed(found, (Trace("a.json", gzip.compress(b"{}")),)))
    assert (tmp_path / "profile" / "a.json").read_bytes() == b"{}"
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["a.json"]


def diagnose_nothing() -> Diagnostics:
    """Of a tiny update."""
    config = tiny_config()
    learner = Learner(config)
    actor = SelfPlay(config, 0, 0)
    actor.set_weights(learner.weights())
    collected, packed = actor.collect()
    return diagnose(Progress(), learner.update([packed], 0), [collected])
