"""Runs that tests of several files look at, and the end of those that a failed test leaves."""

from collections.abc import Iterator

import pytest

from keisei_ray.distributed.cluster import Cluster
from tests.helpers import program
from tests.helpers.pool_runs import PoolRuns, make_pool_runs


@pytest.fixture(scope="session")
def pool_runs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> PoolRuns:
    """Two runs in lockstep with a pool, one of them killed and resumed."""
    return make_pool_runs(cluster, tmp_path_factory.mktemp("pool_runs"))


@pytest.fixture(scope="module", autouse=True)
def _no_program_goes_on() -> Iterator[None]:
    """Ends what the tests of a file have started: a run that goes on takes CPUs from all others."""
    yield
    while program.started:
        process = program.started.pop()
        process.kill()
        process.wait()
