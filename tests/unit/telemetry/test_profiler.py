"""torch.profiler around the calls that the settings name."""

import gzip
import json
from functools import partial

import torch

from keisei_ray.config.sections import ProfileConfig
from keisei_ray.telemetry.profiler import CallProfiler


def traced_sum(number: int) -> float:
    return torch.ones(3).cumsum(0).sum().item() + number


def test_the_calls_that_the_settings_name_are_profiled_and_no_others() -> None:
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


def test_no_call_is_profiled_by_default() -> None:
    profiler = CallProfiler("work", ProfileConfig())
    assert all(profiler.run(lambda: 1) == (1, None) for _ in range(10))
