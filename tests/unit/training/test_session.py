"""How the end of a run is announced. No Ray is started."""

from types import SimpleNamespace
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.errors import KeiseiError, TakenOverError
from keisei_ray.telemetry.events import Event, RunEnded
from keisei_ray.training.session import _announced_end
from keisei_ray.training.stop_request import StopRequest


@pytest.mark.parametrize(
    ("error", "reasons"),
    [(KeiseiError("x"), ["failed"]), (KeyboardInterrupt(), ["interrupted"]),
     (TakenOverError("x"), [])],
)  # fmt: skip
def test_a_run_that_another_process_has_taken_over_does_not_end_in_its_records(
    error: BaseException, reasons: list[str]
) -> None:
    published: list[Event] = []
    driver: Any = SimpleNamespace(
        last_checkpoint=None,
        progress=SimpleNamespace(timestep=3, wall_time_s=1.0),
        bus=SimpleNamespace(publish=published.append),
        config=Config(),
    )
    asked: list[str] = []
    files: Any = SimpleNamespace(
        finish=lambda timeout_s: asked.append("finish"), give_up=lambda: asked.append("give up")
    )
    with pytest.raises(type(error)), _announced_end(driver, StopRequest(), files):
        raise error
    assert [event.reason for event in published if isinstance(event, RunEnded)] == reasons
    assert asked == (["finish"] if reasons else ["give up"])
