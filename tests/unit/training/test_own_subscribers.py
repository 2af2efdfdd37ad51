"""What a resumed run sets aside before its records are cut, and in which order."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError, StorageError
from keisei_ray.telemetry.events import EventBus
from keisei_ray.training import session


def set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *steps: str) -> list[str]:
    """Makes the subscribers of a run that goes back to step 10; returns what is done meanwhile.

    Args:
        tmp_path: where the run is.
        monkeypatch: replaces what makes the subscribers.
        steps: those that fail: "uri" or "subscribers".
    """
    newer = tmp_path / "checkpoints" / "step-000000000020"
    newer.mkdir(parents=True)
    done: list[str] = []

    def configured(*arguments: Any) -> tuple[()]:
        if "subscribers" in steps:
            raise ConfigError("no such subscriber")
        arguments[-1]()
        done.append("cut" if newer.exists() else "aside, cut")
        return ()

    def at_uri(timeout_s: float) -> None:
        if "uri" in steps:
            raise StorageError("no answer")
        done.append("uri" if newer.exists() else "uri late")

    monkeypatch.setattr(session, "configured_subscribers", configured)
    start: Any = SimpleNamespace(run_dir=tmp_path, resume=SimpleNamespace(timestep=10))
    upload: Any = SimpleNamespace(set_newer_aside=at_uri)
    files: Any = None
    try:
        _, told = session._own_subscribers(
            start, Config(), EventBus(), Console(quiet=True), files, upload
        )
        done.append(told[0].message)
    except (ConfigError, StorageError) as error:
        done.append(str(error))
    return [*done, "kept" if newer.exists() else "renamed"]


def test_newer_checkpoints_are_set_aside_at_the_uri_then_here_before_records_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_uri, here, told, state = set_aside(tmp_path, monkeypatch)
    assert (at_uri, here, state) == ("uri", "aside, cut", "renamed")
    assert "step-000000000020 is now superseded-" in told


def test_a_subscriber_that_cannot_be_made_leaves_all_checkpoints_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set_aside(tmp_path, monkeypatch, "subscribers")
    assert found == ["no such subscriber", "kept"]


def test_a_uri_that_does_not_answer_leaves_the_checkpoints_here_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set_aside(tmp_path, monkeypatch, "uri") == ["no answer", "kept"]
