"""The rows of an update: every field in its row, in storage that is allocated once."""

from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.errors import EmptyUpdateError, RolloutFormatError
from keisei_ray.learning.advantages import explained_variance, generalized_advantages, next_values
from keisei_ray.learning.update_batch import BATCH_FIELDS, COPIED_FIELDS, UpdateBatch
from keisei_ray.rollouts.rollout import Rollout
from tests.helpers.rollouts import random_rollout

T, N = 6, 5
ROLLOUTS = [random_rollout(T, N, seed) for seed in range(3)]
DISCOUNTS: dict[str, Any] = {"gamma": 0.99, "gae_lambda": 0.9}


def filled(rollouts: list[Rollout] = ROLLOUTS) -> tuple[UpdateBatch, float]:
    batch = UpdateBatch(len(rollouts) * T * N, torch.device("cpu"))
    return batch, batch.fill(rollouts, **DISCOUNTS)


def advantages_of(rollout: Rollout) -> np.ndarray:
    return generalized_advantages(
        rollout.rewards,
        rollout.values,
        next_values(rollout.values, rollout.bootstrap_values, rollout.truncated),
        rollout.terminated,
        rollout.terminated | rollout.truncated,
        **DISCOUNTS,
    )


def test_every_row_of_every_field_is_the_rollouts_in_order() -> None:
    batch, _ = filled()
    fields = batch.on_device()
    assert fields.keys() == BATCH_FIELDS.keys()
    for name, (dtype, trailing) in BATCH_FIELDS.items():
        assert fields[name].shape == (3 * T * N, *trailing)
        assert fields[name].dtype == dtype
    for r, rollout in enumerate(ROLLOUTS):
        advantages = advantages_of(rollout)
        for t in range(T):
            for n in range(N):
                row = (r * T + t) * N + n
                for name in COPIED_FIELDS:
                    expected = getattr(rollout, name)[t, n]
                    np.testing.assert_array_equal(fields[name][row].numpy(), expected)
                assert fields["advantages"][row] == advantages[t, n]
                target = advantages[t, n] + rollout.values[t, n]
                assert fields["value_targets"][row] == target
                assert 0 <= fields["draw_targets"][row] <= 1


def test_a_rollouts_rows_do_not_depend_on_the_others() -> None:
    fields = filled()[0].on_device()
    alone = filled(ROLLOUTS[1:2])[0].on_device()
    for name in BATCH_FIELDS:
        assert torch.equal(fields[name][T * N : 2 * T * N], alone[name])


def test_explained_variance_is_over_all_rows_of_the_values_acted_on() -> None:
    batch, explained = filled()
    values = np.concatenate([r.values.reshape(-1) for r in ROLLOUTS])
    targets = batch.on_device()["value_targets"].numpy()
    assert explained == explained_variance(values, targets)


def test_normalized_advantages_have_mean_0_and_deviation_1_and_leave_the_targets() -> None:
    batch, _ = filled()
    before = batch.on_device()["advantages"].clone()
    targets = batch.on_device()["value_targets"].clone()
    batch.normalize_advantages()
    advantages = batch.on_device()["advantages"]
    assert float(advantages.mean()) == pytest.approx(0, abs=1e-6)
    assert float(advantages.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.equal(advantages.argsort(), before.argsort())
    assert torch.equal(batch.on_device()["value_targets"], targets)


def test_forced_mates_have_no_part_in_mean_and_deviation() -> None:
    rollout = random_rollout(T, N)
    rollout.is_forced[0] = True
    rollout.terminated[0], rollout.truncated[0], rollout.rewards[0] = True, False, 1
    rollout.bootstrap_values[0] = rollout.bootstrap_draw_probs[0] = 0
    batch, _ = filled([rollout])
    batch.normalize_advantages()
    fields = batch.on_device()
    sampled = fields["advantages"][~fields["is_forced"]]
    assert batch.forced_rows == N
    assert len(sampled) == (T - 1) * N
    assert float(sampled.mean()) == pytest.approx(0, abs=1e-6)
    assert float(sampled.std(correction=0)) == pytest.approx(1, abs=1e-5)
    rollout.is_forced[:] = True
    batch, _ = filled([rollout])
    batch.normalize_advantages()  # No sampled row: nothing to do, and nothing is divided by 0.


def test_equal_advantages_normalize_to_zero() -> None:
    rollout = random_rollout(T, N)
    for name in ("values", "rewards", "bootstrap_values"):
        getattr(rollout, name)[:] = 0
    batch, _ = filled([rollout])
    batch.normalize_advantages()
    assert (batch.on_device()["advantages"] == 0).all()


def test_storage_is_the_same_over_many_updates() -> None:
    batch, _ = filled()
    places = {name: tensor.data_ptr() for name, tensor in batch.on_device().items()}
    for seed in range(5):
        batch.fill([random_rollout(T, N, 10 + seed + k) for k in range(3)], **DISCOUNTS)
        batch.normalize_advantages()
        assert {name: t.data_ptr() for name, t in batch.on_device().items()} == places


def test_refilling_leaves_nothing_of_the_last_update() -> None:
    batch, _ = filled()
    batch.normalize_advantages()
    batch.fill(ROLLOUTS[::-1], **DISCOUNTS)
    fresh = filled(ROLLOUTS[::-1])[0].on_device()
    for name, tensor in batch.on_device().items():
        assert torch.equal(tensor, fresh[name]), name


def test_the_rollouts_are_only_read() -> None:
    before = [rollout.arrays() for rollout in ROLLOUTS]
    copies = [{name: array.copy() for name, array in arrays.items()} for arrays in before]
    batch, _ = filled()
    batch.normalize_advantages()
    for arrays, copy in zip(before, copies, strict=True):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, copy[name])


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(EmptyUpdateError):
        filled()[0].fill([], **DISCOUNTS)


@pytest.mark.parametrize(
    "rollouts",
    [ROLLOUTS[:2], [*ROLLOUTS, ROLLOUTS[0]], [*ROLLOUTS[:2], random_rollout(T, N + 1)]],
    ids=["too few", "too many", "another size"],
)
def test_rollouts_that_do_not_fill_the_update_are_refused_before_anything_is_written(
    rollouts: list[Rollout],
) -> None:
    batch, _ = filled()
    before = {name: tensor.clone() for name, tensor in batch.on_device().items()}
    with pytest.raises(RolloutFormatError, match="90"):
        batch.fill(rollouts, **DISCOUNTS)
    for name, tensor in batch.on_device().items():
        assert torch.equal(tensor, before[name])


def test_updates_of_any_number_of_rollouts_are_taken_where_they_follow_the_cluster() -> None:
    batch = UpdateBatch(T * N, torch.device("cpu"), takes_multiples=True)
    places = set()
    for count in (1, 3, 2, 3):
        batch.fill(ROLLOUTS[:count], **DISCOUNTS)
        fields = batch.on_device()
        expected = filled(ROLLOUTS[:count])[0].on_device()
        assert (batch.timesteps, batch.rows) == (count * T * N, count * T * N)
        for name in BATCH_FIELDS:
            assert torch.equal(fields[name][: batch.rows], expected[name])
        places.add(fields["boards"].data_ptr())
    assert len(places) == 2  # Allocated for the largest so far, never for a smaller one.
    with pytest.raises(RolloutFormatError, match=f"hold {T} timesteps, expected a multiple of"):
        batch.fill([random_rollout(T, 1, 0)], **DISCOUNTS)
