"""Process that writes a run's files."""

import os
from pathlib import Path

from keisei_ray.status.liveness import writing_processes


def test_only_a_process_that_writes_the_runs_files_counts(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("rb"), (run_dir / "notes.txt").open("wb"):
        assert list(writing_processes(run_dir)) == []
        with (run_dir / "run.log").open("ab"):
            assert list(writing_processes(run_dir)) == [os.getpid()]
