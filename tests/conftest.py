"""What several test folders share: one local Ray for all tests with real actors, and hanging."""

import threading
from collections.abc import Callable, Iterator

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, connect


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two CPUs of this machine, no dashboard; down again when the session ends."""
    config = Config.model_validate(
        {"cluster": {"address": "local", "num_cpus": 2, "num_gpus": 0, "object_store_bytes": 2**28}}
    )
    with pytest.MonkeyPatch.context() as patch:
        # Ray's metrics are seen after one second instead of ten.
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        with connect(config, environ={}) as started:
            yield started


@pytest.fixture
def hang() -> Iterator[Callable[[], object]]:
    """Hangs until the test is over."""
    over = threading.Event()
    yield over.wait
    over.set()
