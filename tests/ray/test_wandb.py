"""Training with a W&B that hangs, through real actors."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.telemetry.events import Event, UpdateFinished
from keisei_ray.tracking.wandb.tracker import WandbTracker
from tests.helpers.training_run import overlap_config, train
from tests.helpers.wandb_fakes import FakeClient

pytestmark = pytest.mark.ray


def test_training_goes_on_while_w_and_b_hangs(
    cluster: Cluster,
    tmp_path: Path,
    hang: Callable[[], object],
) -> None:
    told: list[Event] = []
    client = FakeClient(start=hang, upload=hang, finish=hang)
    tracker = WandbTracker(client, told.append, close_timeout_s=0.3, records_waiting=2)
    config = overlap_config(run={"total_timesteps": 256}, self_play={"num_actors": 1})
    run = train(config, cluster, tmp_path / "run", subscribers=[tracker.handle])
    tracker.close()
    assert len(run.of(UpdateFinished)) == 4
    assert run.bus.failures == {}
    assert len(told) == 1  # Records were dropped, and that was said once.
    assert client.is_abandoned
