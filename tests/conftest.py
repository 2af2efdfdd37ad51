"""Fixtures of several test folders, and how the suite is spread over processes.

`pytest` runs everything but the long tests in two processes, `pytest -m long` those,
`pytest tests/unit -n 2` only what needs no Ray, and `pytest PATH` one file or folder in this
process. All tests of files that take the fixture `cluster` share one Ray and therefore one
process; a file whose tests start a Ray of their own stays together.
"""

import threading
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, connect

hypothesis.settings.register_profile("suite", deadline=None)  # A slow machine is no failure.
hypothesis.settings.load_profile("suite")

NUM_PROCESSES = 2
"""Processes for the whole suite: the tests that share a Ray, and beside them all others."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spreads the whole suite over processes; a path, `-n` or `--pdb` decides otherwise."""
    if hasattr(config, "workerinput"):
        return  # This is one of those processes.
    option = config.option
    if _is_whole_suite(config) and option.numprocesses is None and not option.usepdb:
        option.numprocesses = NUM_PROCESSES


def pytest_configure(config: pytest.Config) -> None:
    """Leaves the long tests out of the whole suite, in each process; a path or `-m` takes them."""
    if _is_whole_suite(config) and not config.option.markexpr:
        config.option.markexpr = "not long"


def _is_whole_suite(config: pytest.Config) -> bool:
    """Whether no path was given."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


@pytest.hookimpl(tryfirst=True)  # Before xdist's own, which reads the marks.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps in one process the tests that share a Ray or a run, and with them their files."""
    sharing = {item.path for item in items if "cluster" in getattr(item, "fixturenames", ())}
    for item in items:
        if item.get_closest_marker("ray") and not item.get_closest_marker("xdist_group"):
            group = "shared_ray" if item.path in sharing else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A local Ray with two CPUs and no dashboard, which all tests share."""
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
    """A function that does not return before the test has ended."""
    over = threading.Event()
    yield over.wait
    over.set()
