"""Which rollouts of a failed update are to blame. No Ray is started."""

from typing import Any

import pytest
import ray
from ray.exceptions import ObjectReconstructionFailedError, RayError, RayTaskError

from keisei_ray.distributed.learner_handle import rejected_rollouts
from keisei_ray.errors import NumericalError, RejectedRolloutsError

ROLLOUTS: list["ray.ObjectRef[Any]"] = [ray.ObjectRef(bytes([number] * 28)) for number in range(4)]


def of_the_learner(cause: Exception) -> RayError:
    return RayTaskError("update", "traceback", cause)


def test_a_rollout_that_died_with_its_node_takes_no_other_along() -> None:
    lost = ObjectReconstructionFailedError(ROLLOUTS[2].hex())
    bad = rejected_rollouts(of_the_learner(lost), ROLLOUTS)
    assert list(bad) == [2]
    assert bad[2].startswith("lost with its node: ")


def test_if_it_is_not_known_which_was_lost_none_is_used() -> None:
    lost = ObjectReconstructionFailedError("ff" * 28)
    assert list(rejected_rollouts(of_the_learner(lost), ROLLOUTS)) == [0, 1, 2, 3]


def test_the_learner_names_those_that_it_cannot_read() -> None:
    cause = RejectedRolloutsError({1: "damaged"})
    assert rejected_rollouts(of_the_learner(cause), ROLLOUTS) == {1: "damaged"}


def test_what_is_not_about_rollouts_is_raised() -> None:
    with pytest.raises(NumericalError, match="loss is nan"):
        rejected_rollouts(of_the_learner(NumericalError("loss is nan")), ROLLOUTS)
    death = RayError("gone")
    with pytest.raises(RayError, match="gone"):
        rejected_rollouts(death, ROLLOUTS)
