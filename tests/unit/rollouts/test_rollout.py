"""The rollout record: what it accepts, what it refuses by name, and its storage."""

import gc
import tracemalloc
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from keisei_ray.errors import RolloutFormatError
from keisei_ray.rollouts.rollout import NUM_ACTIONS, ROLLOUT_FIELDS, Rollout, RolloutHeader
from tests.helpers.rollouts import random_rollout

T, N = 6, 5


def changed(name: str, place: Any, value: object) -> Rollout:
    """A valid rollout with one entry overwritten."""
    rollout = random_rollout(T, N, seed=3, actor_id=7, weights_version=41)
    rollout.terminated[...] = False
    rollout.truncated[...] = False
    rollout.rewards[...] = 0
    rollout.bootstrap_values[:-1] = 0
    rollout.bootstrap_draw_probs[:-1] = 0
    rollout.validate()
    getattr(rollout, name)[place] = value
    return rollout


def test_valid_rollouts_pass() -> None:
    for seed in range(20):
        random_rollout(T, N, seed).validate()
    random_rollout(1, 1).validate()


def test_every_field_of_the_record_is_in_the_table_and_in_its_order() -> None:
    assert [f.name for f in fields(Rollout)] == ["header", *ROLLOUT_FIELDS]
    assert list(random_rollout(2, 2).arrays()) == list(ROLLOUT_FIELDS)


def test_allocated_storage_has_the_documented_shapes() -> None:
    rollout = Rollout.allocate(4, 3)
    expected = {
        "boards": ((4, 3, 81), "uint8"),
        "hands": ((4, 3, 14), "uint8"),
        "scalars": ((4, 3, 3), "uint8"),
        "legal_bits": ((4, 3, 187), "uint8"),
        "actions": ((4, 3), "int16"),
        "behavior_log_probs": ((4, 3), "float32"),
        "values": ((4, 3), "float32"),
        "draw_probs": ((4, 3), "float16"),
        "rewards": ((4, 3), "float32"),
        "terminated": ((4, 3), "bool"),
        "truncated": ((4, 3), "bool"),
        "bootstrap_values": ((4, 3), "float32"),
        "bootstrap_draw_probs": ((4, 3), "float16"),
        "is_trained": ((4, 3), "bool"),
        "is_forced": ((4, 3), "bool"),
    }
    assert {k: (a.shape, str(a.dtype)) for k, a in rollout.arrays().items()} == expected
    # 81 + 14 + 3 + 187 codes, one int16, four float32, two float16, four bools.
    assert rollout.raw_bytes == 4 * 3 * (285 + 2 + 16 + 4 + 4)


@pytest.mark.parametrize(("plies", "games"), [(0, 4), (4, 0), (-1, 4)])
def test_storage_of_no_timesteps_is_refused(plies: int, games: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Rollout.allocate(plies, games)


def test_unfilled_storage_is_not_a_valid_rollout() -> None:
    with pytest.raises(RolloutFormatError, match="actions"):
        Rollout.allocate(T, N).validate()


BAD_VALUES = [
    ("boards", (2, 3, 80), 29, r"boards\[2, 3, 80\] = 29, expected 0\.\.28"),
    ("hands", (0, 0, 13), 19, r"hands\[0, 0, 13\] = 19, expected 0\.\.18"),
    ("scalars", (1, 1, 0), 4, r"scalars\[1, 1, 0\] = 4, expected 0\.\.3"),
    ("actions", (2, 2), -1, r"actions\[2, 2\] = -1, expected labels"),
    ("actions", (2, 2), NUM_ACTIONS, r"actions\[2, 2\] = 1496, expected labels"),
    ("behavior_log_probs", (0, 1), np.nan, r"behavior_log_probs\[0, 1\] = nan, expected finite"),
    ("behavior_log_probs", (0, 1), -np.inf, r"behavior_log_probs\[0, 1\] = -inf"),
    ("behavior_log_probs", (0, 1), 0.25, r"behavior_log_probs\[0, 1\] = 0.25.*at most 0"),
    ("values", (5, 4), np.inf, r"values\[5, 4\] = inf, expected finite"),
    ("values", (5, 4), -1.001, r"values\[5, 4\] = -1.001.*\[-1, 1\]"),
    ("rewards", (3, 0), np.nan, r"rewards\[3, 0\] = nan"),
    ("rewards", (3, 0), 2.0, r"rewards\[3, 0\] = 2.0.*\[-1, 1\]"),
    ("rewards", (3, 0), 1.0, r"rewards\[3, 0\] = 1.0, expected 0 where not terminated"),
    ("bootstrap_values", (5, 0), np.nan, r"bootstrap_values\[5, 0\] = nan"),
    ("bootstrap_values", (5, 0), 1.5, r"bootstrap_values\[5, 0\] = 1.5.*\[-1, 1\]"),
    ("bootstrap_values", (4, 0), 0.5, r"bootstrap_values\[4, 0\] = 0.5.*not cut"),
    ("draw_probs", (1, 2), np.nan, r"draw_probs\[1, 2\] = nan, expected probabilities"),
    ("draw_probs", (1, 2), -0.5, r"draw_probs\[1, 2\] = -0.5.*\[0, 1\]"),
    ("draw_probs", (1, 2), 1.5, r"draw_probs\[1, 2\] = 1.5.*\[0, 1\]"),
    ("bootstrap_draw_probs", (5, 3), 2.0, r"bootstrap_draw_probs\[5, 3\] = 2.0.*\[0, 1\]"),
    ("bootstrap_draw_probs", (4, 0), 0.5, r"bootstrap_draw_probs\[4, 0\] = 0.5.*not cut"),
]


@pytest.mark.parametrize(("name", "place", "value", "message"), BAD_VALUES)
def test_a_bad_value_is_refused_by_actor_version_field_and_place(
    name: str, place: Any, value: Any, message: str
) -> None:
    with pytest.raises(RolloutFormatError, match=rf"actor 7 \(weights 41\): {message}"):
        changed(name, place, value).validate()


def test_an_opponents_ply_has_no_value_and_no_log_prob_of_the_learners() -> None:
    for name in ("values", "draw_probs", "behavior_log_probs"):
        rollout = changed("is_trained", (2, 3), False)
        for other in ("values", "draw_probs", "behavior_log_probs"):
            if other != name:
                getattr(rollout, other)[2, 3] = 0
        with pytest.raises(RolloutFormatError, match=rf"{name}\[2, 3\].*0 where an opponent moved"):
            rollout.validate()
        getattr(rollout, name)[2, 3] = 0
        rollout.validate()
    rollout.is_forced[2, 3] = True
    with pytest.raises(RolloutFormatError, match=r"is_forced\[2, 3\].*False where an opponent"):
        rollout.validate()


def test_float_rounding_above_a_log_probability_of_zero_is_accepted() -> None:
    changed("behavior_log_probs", (0, 1), 1e-6).validate()


def test_a_game_cannot_be_terminated_and_truncated_at_once() -> None:
    rollout = changed("terminated", (1, 2), True)
    rollout.truncated[1, 2] = True
    with pytest.raises(RolloutFormatError, match=r"truncated\[1, 2\] = True.*where terminated"):
        rollout.validate()


def test_a_terminated_last_row_has_no_bootstrap_value() -> None:
    rollout = changed("terminated", (-1, 2), True)
    for name in ("bootstrap_values", "bootstrap_draw_probs"):
        getattr(rollout, name)[-1, 2] = 0.25
        with pytest.raises(RolloutFormatError, match=rf"{name}\[5, 2\]"):
            rollout.validate()
        getattr(rollout, name)[-1, 2] = 0
    rollout.validate()


def test_is_cut_marks_truncated_plies_and_the_last_row_where_not_terminated() -> None:
    rollout = random_rollout(40, 30, seed=1)
    for t in range(40):
        for n in range(30):
            last = t == 39 and not rollout.terminated[t, n]
            assert rollout.is_cut[t, n] == (bool(rollout.truncated[t, n]) or last)


def test_each_illegal_action_is_refused_and_each_legal_one_accepted() -> None:
    """All 1,496 labels against `np.unpackbits`, the inverse of how the mask was packed."""
    rollout = random_rollout(1, NUM_ACTIONS, seed=9)
    legal = np.unpackbits(rollout.legal_bits, axis=2).astype(bool)[0]
    assert legal.shape == (NUM_ACTIONS, NUM_ACTIONS)
    for label in range(NUM_ACTIONS):
        one = Rollout.from_arrays(
            RolloutHeader(0, 0, 0, 0, 1, 1),
            {k: a[:, label : label + 1].copy() for k, a in rollout.arrays().items()},
        )
        for action in {label, int(one.actions[0, 0])}:
            one.actions[0, 0] = action
            if legal[label, action]:
                one.validate()
            else:
                with pytest.raises(RolloutFormatError, match=r"actions.*legal_bits"):
                    one.validate()


@pytest.mark.parametrize("name", list(ROLLOUT_FIELDS))
def test_a_wrong_dtype_shape_or_layout_is_refused_by_name(name: str) -> None:
    good = random_rollout(T, N)
    array = getattr(good, name)
    wrong = {
        "float64": array.astype(np.float64),
        "shape": np.ascontiguousarray(array.swapaxes(0, 1)),
        "contiguous": np.asfortranarray(array),
        "list": array.tolist(),
    }
    for message, value in wrong.items():
        bad = replace(good, **{name: value})
        with pytest.raises(RolloutFormatError, match=rf"{name} .*{message}"):
            bad.validate()


@pytest.mark.parametrize("name", [f.name for f in fields(RolloutHeader)])
@pytest.mark.parametrize("value", [-1, 1.0, True, "3", None])
def test_a_header_entry_that_is_no_count_is_refused_by_name(name: str, value: Any) -> None:
    rollout = random_rollout(1, 1)
    bad = replace(rollout, header=replace(rollout.header, **{name: value}))
    with pytest.raises(RolloutFormatError, match=f"header: {name} = "):
        bad.validate()


def test_missing_and_unknown_fields_are_refused_by_name() -> None:
    rollout = random_rollout(2, 2)
    arrays = rollout.arrays()
    with pytest.raises(RolloutFormatError, match="unknown field 'planes'"):
        Rollout.from_arrays(rollout.header, arrays | {"planes": arrays["boards"]})
    del arrays["hands"]
    with pytest.raises(RolloutFormatError, match="lacks the field 'hands'"):
        Rollout.from_arrays(rollout.header, arrays)


def test_a_header_of_other_sizes_does_not_fit_the_storage() -> None:
    with pytest.raises(ValueError, match="T = 3, N = 2"):
        Rollout.allocate(4, 2).with_header(RolloutHeader(0, 0, 0, 0, 3, 2))


@pytest.mark.slow
def test_storage_is_reused_over_many_rollouts_with_flat_memory() -> None:
    storage = Rollout.allocate(32, 32)
    filled = random_rollout(32, 32)
    addresses = [a.ctypes.data for a in storage.arrays().values()]
    tracemalloc.start()
    try:
        for sequence in range(120):
            if sequence == 20:
                gc.collect()  # Empties the interpreter's free lists too, which only seem to grow.
                before = tracemalloc.get_traced_memory()[0]
            for name, array in storage.arrays().items():
                array[...] = getattr(filled, name)
            rollout = storage.with_header(replace(storage.header, sequence=sequence))
            rollout.validate()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert [a.ctypes.data for a in rollout.arrays().values()] == addresses
    assert grown < 10_000  # One copy of the arrays is 317,440 bytes.


def test_filling_beyond_the_last_ply_is_an_error() -> None:
    storage = Rollout.allocate(4, 2)
    with pytest.raises(IndexError):
        storage.actions[4] = 0


def test_positions_are_the_same_if_board_and_hands_are() -> None:
    rollout = Rollout.allocate(T=2, N=5)
    assert rollout.distinct_positions() == 0.1
    rollout.boards[0, 1, 80] = 1
    rollout.hands[0, 2, 13] = 1
    rollout.hands[1, 2, 0] = 1
    rollout.scalars[:] = 7  # The number of repetitions does not make it another position.
    assert rollout.distinct_positions() == 0.4
    rollout.boards[1, 1, 80] = 1
    assert rollout.distinct_positions() == 0.4
