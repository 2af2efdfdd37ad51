"""A model's weights as a packed buffer, to be published, and as a safetensors file, to be kept.

Both carry the weights version, the digest of the exact float32 weights, and the digest of the
architecture. A lossless buffer returns the same bits. A half-precision buffer has half the size and
returns rounded weights, so the policy that acts then differs slightly from the policy that is
updated.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from reprlib import repr as shortened

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from keisei_ray.config.json_text import parse_json
from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError, DamagedBufferError
from keisei_ray.network.finite_weights import check_finite
from keisei_ray.network.host_copy import on_host
from keisei_ray.network.model import PolicyValueNet, architecture_digest
from keisei_ray.network.short_memory import is_short_of_memory
from keisei_ray.rollouts import packed_buffer
from keisei_ray.rollouts.payload import FieldLayout
from keisei_ray.rollouts.weights_header import KIND, WeightsFormat, WeightsInfo, weights_info
from keisei_ray.storage.run_layout import MODEL_FILE

_METADATA_KEY = "keisei_ray"
"""Name of the one metadata entry that holds all metadata of a model file.

safetensors writes several entries in an order that changes from call to call; with one entry the
same weights give the same bytes."""


@dataclass(frozen=True)
class HostWeights:
    """A model's weights on the host; on a CPU they may be the model's own."""

    arrays: Mapping[str, npt.NDArray[np.float32]]
    """Weights by name, see `state_arrays`."""
    config: ModelConfig
    """The architecture."""

    @cached_property
    def digest(self) -> str:
        """Their digest, see `digest`; computed when it is first asked for."""
        return digest(self.arrays)

    def copied(self) -> "HostWeights":
        """Returns weights that stay as they are when the model's change."""
        return HostWeights({name: array.copy() for name, array in self.arrays.items()}, self.config)


def host_weights(model: PolicyValueNet) -> HostWeights:
    """Copies a model's weights to the host. Waits for the device."""
    return HostWeights(state_arrays(model), model.config)


def state_arrays(model: PolicyValueNet) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the weights by name, float32 on the CPU, in the order of the state dict."""
    state = model.state_dict()
    tensors = on_host(list(state.values()))
    return {name: tensor.numpy() for name, tensor in zip(state, tensors, strict=True)}


def digest(arrays: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """Returns the SHA-256 over every name, shape and value: equal exactly if the weights are."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name}{array.shape}".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def pack_weights(
    model: PolicyValueNet, version: int, *, weights_format: WeightsFormat, zstd_level: int
) -> packed_buffer.PackedBuffer:
    """Packs a model's weights into one buffer, see `pack_host_weights`."""
    return pack_host_weights(
        host_weights(model), version, weights_format=weights_format, zstd_level=zstd_level
    )


def pack_host_weights(
    weights: HostWeights, version: int, *, weights_format: WeightsFormat, zstd_level: int
) -> packed_buffer.PackedBuffer:
    """Packs weights into one buffer.

    Args:
        weights: the weights; not changed.
        version: updates behind the weights.
        weights_format: precision of the buffer.
        zstd_level: 1 (fast) to 22 (small).

    Returns:
        [bytes] uint8, read-only.
    """
    header: dict[str, packed_buffer.Scalar] = {
        "version": version,
        "digest": weights.digest,
        "architecture": architecture_digest(weights.config),
        "format": weights_format,
    }
    stored: dict[str, npt.NDArray[np.generic]] = dict(weights.arrays)
    if weights_format == "half":
        stored = {name: array.astype(np.float16) for name, array in weights.arrays.items()}
    # Shuffled, since the exponents of floats compress and their mantissas do not.
    shuffle = frozenset(stored)
    return packed_buffer.pack(KIND, header, stored, zstd_level=zstd_level, shuffle=shuffle)


def load_weights(model: PolicyValueNet, buffer: packed_buffer.BufferLike) -> WeightsInfo:
    """Overwrites a model's weights in place by those of a buffer.

    Nothing is decompressed unless the buffer's fields are exactly the weights of this model.

    Raises:
        WireError: the buffer is damaged, foreign, or of a newer schema, or its lossless weights
            are not those that it names by their digest.
        CheckpointError: the weights belong to another architecture. Nothing has changed.
    """

    def check(header: dict[str, packed_buffer.Scalar], layout: Sequence[FieldLayout]) -> None:
        info = weights_info(header)
        check_architecture(model, info.architecture)
        _check_fields(model, info, layout)

    header, arrays = packed_buffer.unpack(buffer, KIND, check)
    info = weights_info(header)
    weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    # Rounded weights cannot have the digest of the exact ones; their checksum has to do.
    if info.format == "lossless" and (found := digest(weights)) != info.digest:
        raise DamagedBufferError(
            f"weights buffer: version {info.version} holds weights of digest {found[:16]}, its "
            f"header names {info.digest[:16]}."
        )
    load_arrays(model, weights)
    return info


def _check_fields(model: PolicyValueNet, info: WeightsInfo, layout: Sequence[FieldLayout]) -> None:
    """Refuses a buffer whose fields are not the weights of this model."""
    dtype = np.dtype(np.float16 if info.format == "half" else np.float32)
    expected = {name: (tuple(t.shape), dtype) for name, t in model.state_dict().items()}
    announced = {field.name: (field.shape, field.dtype) for field in layout}
    if announced != expected:
        names = [*expected, *(name for name in announced if name not in expected)]
        odd = next(name for name in names if announced.get(name) != expected.get(name))
        raise CheckpointError(
            f"weights of another architecture: {shortened(odd)} is "
            f"{shortened(announced.get(odd))}, expected {expected.get(odd)}. Use the model section "
            "they were trained with."
        )


def check_architecture(model: PolicyValueNet, architecture: str) -> None:
    """Refuses weights of another architecture.

    The digest is compared because names and shapes do not suffice: a ReLU and a SiLU network have
    the same ones.

    Raises:
        CheckpointError: `architecture` is not the digest of the model's config.
    """
    own = architecture_digest(model.config)
    if architecture != own:
        raise CheckpointError(
            f"weights of another architecture: digest {shortened(architecture)}, expected {own}. "
            "Use the model section they were trained with."
        )


def load_arrays(model: PolicyValueNet, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Overwrites a model's weights in place by named arrays.

    Raises:
        CheckpointError: a name or a shape is not of this architecture. Nothing has changed.
    """
    own = model.state_dict()
    if own.keys() != arrays.keys():
        odd = sorted(own.keys() ^ arrays.keys())
        raise CheckpointError(
            f"weights of another architecture: {len(odd)} names differ, first {odd[0]!r}. "
            "Use the model section they were trained with."
        )
    for name, tensor in own.items():
        if tuple(tensor.shape) != arrays[name].shape:
            raise CheckpointError(
                f"weights of another architecture: {name} has shape {arrays[name].shape}, expected "
                f"{tuple(tensor.shape)}. Use the model section they were trained with."
            )
    for name, tensor in own.items():
        tensor.copy_(torch.from_numpy(np.array(arrays[name])))


def write_model_file(weights: HostWeights, version: int) -> bytes:
    """Returns the content of `model.safetensors`; equal weights and versions give equal bytes."""
    metadata = {
        "weights_version": str(version),
        "weights_digest": weights.digest,
        "architecture": architecture_digest(weights.config),
        "model": weights.config.model_dump_json(),
    }
    tensors = {name: torch.from_numpy(array) for name, array in weights.arrays.items()}
    return safetensors.torch.save(tensors, {_METADATA_KEY: json.dumps(metadata)})


def read_model_file(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the weights by name from the content of `model.safetensors`.

    Raises:
        CheckpointError: the content is not a safetensors file, its weights do not match the digest
            in its metadata, or they are not finite.
        RuntimeError: memory is short, see `is_short_of_memory`.
    """
    try:
        tensors = safetensors.torch.load(content)
    except (
        safetensors.SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as error:
        if is_short_of_memory(error):
            raise
        raise CheckpointError(f"{MODEL_FILE} is not a safetensors file: {error}") from error
    if odd := [name for name, tensor in tensors.items() if tensor.dtype != torch.float32]:
        raise CheckpointError(
            f"{MODEL_FILE}: {shortened(odd[0])} is {tensors[odd[0]].dtype}, expected float32."
        )
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    named = read_model_metadata(content).get("weights_digest")
    if named != (found := digest(arrays)):
        raise CheckpointError(
            f"{MODEL_FILE} holds weights of digest {found}, its metadata names {shortened(named)}."
        )
    check_finite(arrays)
    return arrays


def read_model_metadata(content: bytes) -> dict[str, str]:
    """Returns the metadata of a sound `model.safetensors`.

    Returns:
        `weights_version`, `weights_digest`, `architecture`, and `model`: the model section as JSON.
        Empty if `write_model_file` did not write the file.
    """
    size = int.from_bytes(content[:8], "little")
    try:
        entries = parse_json(content[8 : 8 + size])["__metadata__"]
        metadata = parse_json(entries[_METADATA_KEY])
    except (ValueError, LookupError, TypeError):
        return {}
    if not isinstance(metadata, dict):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(value, str)}


def read_network(content: bytes) -> tuple[dict[str, npt.NDArray[np.float32]], ModelConfig]:
    """Returns weights and architecture from the content of `model.safetensors`.

    Raises:
        CheckpointError: as `read_model_file`, or the file does not say which model it is of.
    """
    arrays = read_model_file(content)
    try:
        model = ModelConfig.model_validate_json(read_model_metadata(content).get("model", ""))
    except ValueError as error:
        raise CheckpointError(f"{MODEL_FILE} does not say which model it is of.") from error
    return arrays, model
