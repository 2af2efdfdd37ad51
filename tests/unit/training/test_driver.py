"""Saving by the driver when its loop ends by an exception. No Ray is started."""

from types import SimpleNamespace
from typing import Any

import pytest

from keisei_ray.errors import KeiseiError, TakenOverError
from keisei_ray.training.driver import Driver


@pytest.mark.parametrize(
    ("error", "is_saved"),
    [(KeiseiError("x"), True), (TakenOverError("x"), False), (KeyboardInterrupt(), False)],
)
def test_a_run_that_another_process_has_taken_over_saves_nothing(
    error: BaseException, is_saved: bool
) -> None:
    saved: list[str] = []

    def train() -> None:
        raise error

    driver: Any = SimpleNamespace(
        _train=train, _save_after_failure=lambda: saved.append("state"), save=pytest.fail
    )
    with pytest.raises(type(error)):
        Driver._train_and_save(driver)
    assert saved == (["state"] if is_saved else [])
