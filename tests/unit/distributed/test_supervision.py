"""Which actors may be restarted, and how often. No Ray is started."""

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)

from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed.supervision import DEATHS, DeathBudget, end_dead_actor
from keisei_ray.errors import ActorLostError, ClusterError, ConfigError

LIMITS = ClusterConfig(max_actor_deaths=2, death_window_s=60)
ACTOR = object()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> DeathBudget:
    return DeathBudget("the actor", LIMITS, clock)


@pytest.fixture(autouse=True)
def killed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Actors whose process was ended."""
    ended: list[object] = []
    monkeypatch.setattr("keisei_ray.distributed.supervision.ray.kill", ended.append)
    return ended


def raised_by_an_actor(cause: Exception) -> RayError:
    return RayTaskError("collect", f"traceback\n{cause}", cause)


def test_an_actor_may_die_so_often_within_the_window(clock: Clock, budget: DeathBudget) -> None:
    for left, clock.now in ((1, 0.0), (0, 30.0)):
        budget.answered()
        assert budget.spend(RuntimeError("early")) == left
    budget.answered()
    clock.now = 60.0
    with pytest.raises(ActorLostError, match=r"^the actor died 3 times in 60 s \(limit 2\)\. Last"):
        budget.spend(RuntimeError("late"))


def test_deaths_before_the_window_are_forgotten_once_it_has_answered(
    clock: Clock, budget: DeathBudget
) -> None:
    for number in range(10):
        clock.now = 60.5 * number
        budget.answered()
        assert budget.spend(RuntimeError("again")) == 1


def test_deaths_in_a_row_count_however_long_each_start_took(
    clock: Clock, budget: DeathBudget
) -> None:
    for left, clock.now in ((1, 1000.0), (0, 2000.0)):
        assert budget.spend(RuntimeError("slow")) == left
    clock.now = 3000.0
    with pytest.raises(ActorLostError, match=r"the actor died 3 times in a row \(limit 2\)"):
        budget.spend(RuntimeError("slow"))


def test_an_answer_ends_the_row_but_not_the_window(clock: Clock, budget: DeathBudget) -> None:
    budget.spend(RuntimeError("first"))
    clock.now = 10.0
    budget.answered()
    assert budget.spend(RuntimeError("second")) == 0
    clock.now = 65.0
    budget.answered()
    # The first death lies before the window by now, the second does not.
    assert budget.spend(RuntimeError("third")) == 0


def test_what_is_left_of_a_dead_actor_is_ended_and_its_death_counted(
    budget: DeathBudget, killed: list[object]
) -> None:
    assert end_dead_actor(ACTOR, ActorDiedError(), budget) == 1
    assert end_dead_actor(ACTOR, ActorUnavailableError("out of reach", None), budget) == 0
    assert killed == [ACTOR, ACTOR]


def test_a_spent_budget_names_the_actors_own_exception(
    budget: DeathBudget, killed: list[object]
) -> None:
    cause = MemoryError("no room for the games")
    for _ in range(2):
        end_dead_actor(ACTOR, raised_by_an_actor(cause), budget)
    with pytest.raises(ActorLostError, match="Last cause: MemoryError: no room for") as lost:
        end_dead_actor(ACTOR, raised_by_an_actor(cause), budget)
    assert lost.value.__cause__ is cause
    assert killed == [ACTOR] * 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (raised_by_an_actor(ConfigError("seed = x")), ConfigError),
        (raised_by_an_actor(ImportError("No module named 'torch'")), ClusterError),
    ],
)
def test_what_a_restart_cannot_put_right_is_raised_and_not_counted(
    error: RayError, expected: type[Exception], budget: DeathBudget, killed: list[object]
) -> None:
    with pytest.raises(expected):
        end_dead_actor(ACTOR, error, budget)
    assert killed == [ACTOR]
    assert end_dead_actor(ACTOR, ActorDiedError(), budget) == 1


def test_an_evaluator_is_tried_again_after_any_error(budget: DeathBudget) -> None:
    error = raised_by_an_actor(ImportError("No module named 'torch'"))
    for left in (1, 0):
        assert end_dead_actor(ACTOR, error, budget, is_user_error_final=False) == left
    with pytest.raises(ActorLostError):
        end_dead_actor(ACTOR, error, budget, is_user_error_final=False)


@pytest.mark.parametrize(
    ("error", "is_death"),
    [
        (ActorDiedError(), True),
        (ActorUnavailableError("out of reach", None), True),
        (OutOfMemoryError("evicted"), True),
        (raised_by_an_actor(ValueError("loss")), False),
        (ObjectLostError("00", None, ""), False),
        (NodeDiedError("gone"), False),
        (TaskCancelledError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_process_that_is_gone_or_out_of_reach_is_dead(
    error: RayError, is_death: bool
) -> None:
    assert isinstance(error, DEATHS) is is_death
