"""Weights as buffers: exact where promised, close where not, refused where they do not fit."""

import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.memory import max_parameters
from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError, DamagedBufferError, ForeignBufferError
from keisei_ray.network.model import PolicyValueNet, architecture_digest, build_model
from keisei_ray.network.weights import (
    digest,
    load_arrays,
    load_weights,
    pack_weights,
    state_arrays,
)
from keisei_ray.rollouts import packed_buffer
from keisei_ray.rollouts.weights_header import peek_weights
from tests.helpers.mutations import joined_packed, split_packed
from tests.helpers.rollouts import random_rollout
from tests.helpers.tiny import packed, tiny_config

CONFIG = tiny_config().model


def model(seed: int = 0, **changes: object) -> PolicyValueNet:
    return build_model(CONFIG.model_copy(update=changes), seed=seed)


def bits(network: PolicyValueNet) -> dict[str, bytes]:
    return {name: t.detach().numpy().tobytes() for name, t in network.state_dict().items()}


@pytest.mark.parametrize("changes", [{}, {"squeeze_excitation": True}, {"depth": 2}], ids=str)
def test_lossless_weights_come_back_bit_for_bit(changes: dict[str, Any]) -> None:
    sender, receiver = model(1, **changes), model(2, **changes)
    assert bits(sender) != bits(receiver)
    buffer = pack_weights(sender, 7, weights_format="lossless", zstd_level=1)
    info = load_weights(receiver, buffer)
    assert bits(receiver) == bits(sender)
    assert digest(state_arrays(receiver)) == digest(state_arrays(sender)) == info.digest
    assert (info.version, info.format) == (7, "lossless")
    assert info.architecture == architecture_digest(sender.config)
    assert peek_weights(buffer) == info


def test_half_weights_are_the_nearest_halves_and_name_the_exact_weights() -> None:
    sender, receiver = model(1), model(2)
    exact = pack_weights(sender, 3, weights_format="lossless", zstd_level=1)
    buffer = pack_weights(sender, 3, weights_format="half", zstd_level=1)
    info = load_weights(receiver, buffer)
    assert info.format == "half"
    assert info.digest == digest(state_arrays(sender))
    assert digest(state_arrays(receiver)) != info.digest
    assert len(buffer) < 0.7 * len(exact)
    for name, array in state_arrays(receiver).items():
        expected = state_arrays(sender)[name].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(array, expected)


def test_loading_overwrites_in_place() -> None:
    """Replicas and optimizer share the memory, and its channels-last order."""
    receiver = model(2)
    places = [(p.data_ptr(), p.stride()) for p in receiver.parameters()]
    load_weights(receiver, pack_weights(model(1), 0, weights_format="lossless", zstd_level=1))
    assert [(p.data_ptr(), p.stride()) for p in receiver.parameters()] == places


def test_loaded_weights_do_not_share_memory_with_the_buffer() -> None:
    receiver = model(2)
    buffer = pack_weights(model(1), 0, weights_format="lossless", zstd_level=1).copy()
    load_weights(receiver, buffer)
    before = bits(receiver)
    buffer[:] = 0
    assert bits(receiver) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 32},
        {"depth": 2},
        {"squeeze_excitation": True},
        {"activation": "silu"},
        {"material_prior": 0.0},
    ],
    ids=str,
)
def test_weights_of_another_architecture_are_refused_and_nothing_changes(
    changes: dict[str, Any],
) -> None:
    """Weights are refused even where every name and shape fits, as for another activation."""
    receiver = model(2)
    before = bits(receiver)
    buffer = pack_weights(model(1, **changes), 0, weights_format="lossless", zstd_level=1)
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(receiver, buffer)
    assert bits(receiver) == before


def test_arrays_of_wrong_names_or_shapes_are_refused_and_nothing_changes() -> None:
    receiver = model(2)
    before = bits(receiver)
    good = state_arrays(model(1))
    last = list(good)[-1]
    assert good[last].shape != (3, 3)
    for bad in (
        {**good, last: np.zeros((3, 3), np.float32)},
        {**good, "more": np.zeros(1, np.float32)},
        {name: array for name, array in good.items() if name != last},
    ):
        with pytest.raises(CheckpointError, match="another architecture"):
            load_arrays(receiver, bad)
        assert bits(receiver) == before


def test_the_digest_changes_with_one_bit_one_name_or_one_shape() -> None:
    arrays = {name: array.copy() for name, array in state_arrays(model(1)).items()}
    seen = {digest(arrays)}
    for name, array in arrays.items():
        flat = array.reshape(-1).view(np.uint32)
        flat[-1] ^= 1
        seen.add(digest(arrays))
        flat[-1] ^= 1
        shaped = {**arrays, name: array.reshape(1, *array.shape, 1)}
        seen |= {digest(shaped), digest({(k + "x" if k == name else k): arrays[k] for k in arrays})}
    assert len(seen) == 1 + 3 * len(arrays)
    assert digest(arrays) in seen


def test_the_digest_ignores_order_and_memory_layout() -> None:
    arrays = state_arrays(model(1))
    turned = {name: np.asfortranarray(arrays[name]) for name in reversed(arrays)}
    assert digest(turned) == digest(arrays)


def test_damaged_weights_and_other_buffers_are_refused() -> None:
    receiver = model(2)
    before = bits(receiver)
    buffer = pack_weights(model(1), 0, weights_format="lossless", zstd_level=1).copy()
    buffer[len(buffer) // 2] ^= 1
    with pytest.raises(DamagedBufferError):
        load_weights(receiver, buffer)
    with pytest.raises(ForeignBufferError):
        load_weights(receiver, packed(random_rollout(2, 2)))
    assert bits(receiver) == before


def forged(change: dict[str, Any]) -> bytes:
    """Returns sound packed weights with another header."""
    buffer = pack_weights(model(1), 7, weights_format="lossless", zstd_level=1).tobytes()
    header, payload = split_packed(buffer)
    header["meta"] |= change
    return joined_packed(header, payload)


@pytest.mark.parametrize(
    "change",
    [
        {"version": -1},
        {"version": "7"},
        {"version": None},
        {"digest": "0" * 63},
        {"digest": 5},
        {"format": "float8"},
        {"architecture": True},
    ],
    ids=str,
)
def test_a_header_that_is_no_weights_is_damage(change: dict[str, Any]) -> None:
    for read in (peek_weights, partial(load_weights, model(2))):
        with pytest.raises(DamagedBufferError, match=f"weights buffer: {next(iter(change))} = "):
            read(forged(change))


def test_weights_of_another_digest_than_named_are_damage() -> None:
    receiver = model(2)
    before = bits(receiver)
    with pytest.raises(DamagedBufferError, match="names 0000000000"):
        load_weights(receiver, forged({"digest": "0" * 64}))
    assert bits(receiver) == before


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"huge": (1 << 26,)}, {"policy.bias": (1 << 26,)}], ids=str)
def test_weights_beyond_the_model_are_refused_before_they_are_decompressed(
    change: dict[str, tuple[int, ...]],
) -> None:
    sender = model(1)
    arrays: dict[str, Any] = dict(state_arrays(sender))
    arrays |= {name: np.zeros(shape, np.float32) for name, shape in change.items()}
    header: dict[str, Any] = {"version": 1, "digest": "0" * 64, "format": "lossless"}
    header["architecture"] = architecture_digest(sender.config)
    buffer = packed_buffer.pack("weights", header, arrays, zstd_level=1)
    receiver = model(2)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"another architecture: '{next(iter(change))}'"):
            load_weights(receiver, buffer)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_state_arrays_are_float32_in_the_order_of_the_state_dict() -> None:
    network = model(1)
    arrays = state_arrays(network)
    assert list(arrays) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        assert arrays[name].dtype == np.float32
        assert arrays[name].flags.c_contiguous
        assert torch.equal(torch.from_numpy(arrays[name]), tensor)


def test_the_default_network_fits_its_configs_bound() -> None:
    for config in (ModelConfig(), CONFIG):
        count = sum(array.size for array in state_arrays(build_model(config, seed=0)).values())
        assert count <= max_parameters(config)
