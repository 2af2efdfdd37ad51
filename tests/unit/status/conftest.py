"""Run directory that the tests of `status` and `watch` share."""

from pathlib import Path

import pytest

from tests.helpers.report_runs import write_run
from tests.helpers.status_runs import BEGAN_S, written_at


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of 20 updates, one a second, last written to when the last was done."""
    return written_at(write_run(tmp_path / "run", updates=20), BEGAN_S + 20)
