"""The warning of a divergence says what was found and names the way back."""

from dataclasses import replace
from pathlib import Path

import pytest

from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.divergence import Divergence
from keisei_ray.telemetry.events import Event, Notice
from keisei_ray.tracking.divergence_alarm import DivergenceAlarm
from tests.helpers.run_events import diagnosed, updated


def warning_of(found: Divergence, checkpoints_dir: Path) -> str:
    published: list[Event] = []
    alarm = DivergenceAlarm(published.append, checkpoints_dir)
    for event in (updated(22), diagnosed(21), replace(diagnosed(22), divergence=found)):
        alarm.handle(event)
    (notice,) = published
    assert isinstance(notice, Notice)
    assert notice.level == "WARNING"
    return notice.message


@pytest.mark.parametrize(
    ("sound_until", "expected"),
    [
        (12_000, "before: --resume {}/step-000000005000"),
        (1_000, "no checkpoint is from before."),
    ],
)
def test_the_warning_names_the_newest_checkpoint_from_before(
    tmp_path: Path, sound_until: int, expected: str
) -> None:
    for timestep in (2_000, 5_000, 10_000, 22_000):
        checkpoint.save(tmp_path, timestep, {"weights": b"w"}, {})
    (tmp_path / "step-000000010000" / "weights").write_bytes(b"damaged")
    warning = warning_of(Divergence(22, "kl_proximal 1", sound_until), tmp_path)
    assert warning.startswith("training diverges at update 22: kl_proximal 1. Lower learner.learn")
    assert warning.endswith(expected.format(tmp_path))


def test_directories_that_cannot_be_listed_do_not_cost_the_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warning = warning_of(Divergence(22, "kl_proximal 1", 12_000), tmp_path / "file")
    assert "no checkpoint is from before" in warning
