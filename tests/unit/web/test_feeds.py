"""A run as the pages follow it: when there is something new, and that browsers see it."""

import json
from pathlib import Path

from keisei_ray.web.feeds import RunFeed
from tests.helpers.report_runs import evaluation, write_run


def test_a_match_that_evaluate_adds_to_a_run_that_is_over_is_seen(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "a", updates=20)
    feed = RunFeed(run_dir)
    assert feed.run().evaluations == ()
    revision = feed.snapshot().revision
    (run_dir / "matches.jsonl").write_text(json.dumps(evaluation(2000, "random", 0.5)) + "\n")
    assert feed.snapshot().revision > revision
    assert len(feed.run().evaluations) == 1


def test_no_two_feeds_have_the_same_revision(tmp_path: Path) -> None:
    """A browser keeps what a server, or a run of this name, gave it under a revision."""
    first = RunFeed(write_run(tmp_path / "a", updates=100)).snapshot().revision
    second = RunFeed(write_run(tmp_path / "b", updates=100)).snapshot().revision
    assert first < second < 2**53
