"""Fixtures of several test folders, and how the suite is spread over processes.

`pytest` runs everything but the long tests in three processes, `pytest -m long` those,
`make fast` only what is soon done without Ray, and `pytest PATH` one file or folder in this
process. Each process starts one Ray for all its tests that take the fixture `cluster`. Tests of a
file stay together where they start Ray or share a fixture; files that share one name the same
`xdist_group`. What starts Ray comes first: short tests at the end leave no process without work.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from keisei_ray.distributed.cluster import Cluster

hypothesis.settings.register_profile("suite", deadline=None)  # A slow machine is no failure.
hypothesis.settings.load_profile("suite")

# Threads that compute together mostly wait for each other where all cores are busy with tests.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

# The tests start some two hundred processes. Without its cache, each compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

collect_ignore: list[str] = []
if sys.version_info[:2] == (3, 12):  # There cshogi needs numpy 1, and other packages numpy 2.
    names = ("cshogi", "record_corpus", "record_readers")
    files = Path(__file__).parent.rglob("test_*.py")
    collect_ignore += [str(f) for f in files if any(n in f.read_text("utf-8") for n in names)]

NUM_PROCESSES = 3
"""Processes for the whole suite: one more than cores of a small machine, since Ray's tests wait."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spreads the whole suite over processes; a path, `-n` or `--pdb` decides otherwise."""
    if hasattr(config, "workerinput"):
        return  # This is one of those processes.
    option = config.option
    if _is_whole_suite(config) and option.numprocesses is None and not option.usepdb:
        option.numprocesses = NUM_PROCESSES
        option.loadscopereorder = False  # In the order of `pytest_collection_modifyitems`.


def pytest_configure(config: pytest.Config) -> None:
    """Leaves the long and platform tests out of the whole suite; a path or `-m` takes them."""
    if _is_whole_suite(config) and not config.option.markexpr:
        config.option.markexpr = "not long and not platform"


def _is_whole_suite(config: pytest.Config) -> bool:
    """Whether no path was given."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


@pytest.hookimpl(tryfirst=True)  # Before xdist's own, which reads the marks.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests with Ray first, and keeps in one process the tests of a file that share."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        is_sharing = item.get_closest_marker("ray") or _has_fixture_of_module(item)
        if is_sharing and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))


def _has_fixture_of_module(item: pytest.Item) -> bool:
    """Whether a test takes what is made once for all tests of its file."""
    assert isinstance(item, pytest.Function)
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(definitions[-1].scope == "module" for definitions in fixtures)


@pytest.fixture(scope="session")
def cluster() -> Iterator["Cluster"]:
    """A local Ray with two CPUs and no dashboard, which all tests of a process share.

    Without Ray's log monitor, which takes the more time the more processes have written a log.
    """
    import ray

    from keisei_ray.config.schema import Config
    from keisei_ray.distributed.cluster import connect

    config = Config.model_validate(
        {"cluster": {"address": "local", "num_cpus": 2, "num_gpus": 0, "object_store_bytes": 2**28}}
    )
    with pytest.MonkeyPatch.context() as patch:
        # Ray's metrics are seen after three seconds instead of ten.
        patch.setenv("RAY_metrics_report_interval_ms", "3000")
        with connect(config, environ={}) as started:
            node: Any = ray._private.worker._global_node
            node.kill_log_monitor()  # There is no public way.
            yield started


@pytest.fixture
def hang() -> Iterator[Callable[[], object]]:
    """A function that does not return before the test has ended."""
    over = threading.Event()
    yield over.wait
    over.set()
