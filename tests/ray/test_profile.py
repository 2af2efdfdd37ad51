"""A real run that is profiled: what it leaves, and that one that is not leaves nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.telemetry.events import EventBus
from keisei_ray.tracking.profile_files import ProfileFiles
from keisei_ray.training.session import configured_subscribers
from tests.helpers.training_run import overlap_config, train

pytestmark = pytest.mark.ray


def test_a_profiled_run_leaves_traces_of_learner_and_actor_and_rays_timeline(
    cluster: Cluster, tmp_path: Path
) -> None:
    config = overlap_config(
        run={"total_timesteps": 4 * 64},
        learner={"num_threads": 2},
        schedule={"mode": "lockstep"},  # So that every actor plays a rollout of each update.
        profile={"updates": 2, "first_update": 2},
    )
    files = ProfileFiles(tmp_path)
    run = train(config, cluster, tmp_path, subscribers=[files.handle])
    files.close()
    assert run.bus.failures == {}
    found: dict[str, Any] = {
        path.name: json.loads(path.read_text()) for path in (tmp_path / "profile").iterdir()
    }
    assert sorted(found) == [
        "actor-0.0-rollout-000002.json",
        "actor-0.0-rollout-000003.json",
        "learner-update-000002.json",
        "learner-update-000003.json",
        "timeline.json",
    ]
    update = found["learner-update-000002.json"]["traceEvents"]
    assert {"aten::conv2d", "aten::convolution_backward"} <= {event["name"] for event in update}
    assert "aten::_fused_adamw_" in {event["name"] for event in update}
    convolved = {e["tid"] for e in update if e["name"] == "aten::convolution_backward"}
    assert len(convolved) == 2, "each of the learner's threads is seen"
    rollout = found["actor-0.0-rollout-000003.json"]["traceEvents"]
    assert "aten::_convolution" in {event["name"] for event in rollout}
    assert {"collect", "update"} <= {event["name"] for event in found["timeline.json"]}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("updates", [0, 1])
def test_the_setting_decides_whether_there_is_a_profile(updates: int, tmp_path: Path) -> None:
    config = Config.model_validate(
        {"tracking": {"view": "none", "ray_metrics": False}, "profile": {"updates": updates}}
    )
    bus = EventBus()
    built = configured_subscribers(config, tmp_path, bus, None, Console(quiet=True))
    for subscriber in built:
        bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
    assert bus.close(30.0) == ()
    assert bus.failures == {}
    assert (tmp_path / "profile" / "timeline.json").exists() == bool(updates)
    assert (tmp_path / "profile").exists() == bool(updates)
