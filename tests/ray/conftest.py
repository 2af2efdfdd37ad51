"""Runs that tests of several files look at."""

import pytest

from keisei_ray.distributed.cluster import Cluster
from tests.helpers.pool_runs import PoolRuns, make_pool_runs


@pytest.fixture(scope="session")
def pool_runs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> PoolRuns:
    """Two runs in lockstep with a pool, one of them killed and resumed."""
    return make_pool_runs(cluster, tmp_path_factory.mktemp("pool_runs"))
