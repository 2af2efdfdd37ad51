"""A model's weights as one versioned, digested buffer, and back.

The buffer carries what is needed to trust it: the weights version, the digest of the exact
float32 weights, and the digest of the architecture. Lossless buffers give back the same bits;
half-precision ones are half the size and give back weights that are only close, so the policy
that acts is then not quite the policy that is updated.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from keisei_ray.errors import CheckpointError
from keisei_ray.network.model import PolicyValueNet, architecture_digest
from keisei_ray.rollouts import packed_buffer
from keisei_ray.storage.run_layout import MODEL_FILE

WeightsFormat = Literal["lossless", "half"]
KIND = "weights"

_METADATA_KEY = "keisei_ray"
"""One entry for all metadata: safetensors writes several in an order that changes from call to
call, and the same weights shall give the same bytes."""


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights buffer says of itself."""

    version: int
    """Updates behind these weights; 0 = initial."""
    digest: str
    """SHA-256 of the float32 weights the learner holds, names and shapes included."""
    architecture: str
    """`model.architecture_digest` of the config they were built with."""
    format: WeightsFormat


def state_arrays(model: PolicyValueNet) -> dict[str, npt.NDArray[np.float32]]:
    """The weights by name, float32 on the CPU, in the order of the state dict."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        for name, tensor in model.state_dict().items()
    }


def digest(arrays: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """SHA-256 over every name, shape and value: equal exactly when the weights are."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name}{array.shape}".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def pack_weights(
    model: PolicyValueNet, version: int, *, weights_format: WeightsFormat, zstd_level: int
) -> packed_buffer.PackedBuffer:
    """One buffer with the model's weights, to be published under `version`."""
    arrays = state_arrays(model)
    header: dict[str, packed_buffer.Scalar] = {
        "version": version,
        "digest": digest(arrays),
        "architecture": architecture_digest(model.config),
        "format": weights_format,
    }
    stored: dict[str, npt.NDArray[np.generic]] = dict(arrays)
    if weights_format == "half":
        stored = {name: array.astype(np.float16) for name, array in arrays.items()}
    # Bytes of equal significance side by side: exponents compress, mantissas do not.
    shuffle = frozenset(stored)
    return packed_buffer.pack(KIND, header, stored, zstd_level=zstd_level, shuffle=shuffle)


def peek_weights(buffer: packed_buffer.BufferLike) -> WeightsInfo:
    """Version and digests without unpacking the weights."""
    return _info(packed_buffer.peek(buffer, KIND))


def load_weights(model: PolicyValueNet, buffer: packed_buffer.BufferLike) -> WeightsInfo:
    """Overwrites the model's weights in place.

    Raises:
        WireError: the buffer is damaged, foreign or newer.
        CheckpointError: the weights belong to another architecture.
    """
    header, arrays = packed_buffer.unpack(buffer, KIND)
    info = _info(header)
    check_architecture(model, info.architecture)
    load_arrays(model, {name: array.astype(np.float32) for name, array in arrays.items()})
    return info


def check_architecture(model: PolicyValueNet, architecture: str) -> None:
    """Names and shapes alone do not tell: ReLU and SiLU networks have the same ones.

    Raises:
        CheckpointError: `architecture` is not the digest of the model's config.
    """
    own = architecture_digest(model.config)
    if architecture != own:
        raise CheckpointError(
            f"weights of another architecture: digest {architecture}, expected {own}. "
            "Use the model section they were trained with."
        )


def load_arrays(model: PolicyValueNet, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Overwrites the model's weights in place from named arrays.

    Raises:
        CheckpointError: a name or a shape is not this architecture's; nothing has changed.
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


def write_model_file(model: PolicyValueNet, version: int) -> bytes:
    """The content of `model.safetensors`; equal weights and versions give equal bytes."""
    arrays = state_arrays(model)
    metadata = {
        "weights_version": str(version),
        "weights_digest": digest(arrays),
        "architecture": architecture_digest(model.config),
        "model": model.config.model_dump_json(),
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return safetensors.torch.save(tensors, {_METADATA_KEY: json.dumps(metadata)})


def read_model_file(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Weights by name from `model.safetensors`.

    Raises:
        CheckpointError: not a safetensors file, or not the weights its digest names.
    """
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{MODEL_FILE} is not a safetensors file: {error}") from error
    arrays = {name: tensor.to(torch.float32).numpy() for name, tensor in tensors.items()}
    named = read_model_metadata(content).get("weights_digest")
    if named != (found := digest(arrays)):
        raise CheckpointError(
            f"{MODEL_FILE} holds weights of digest {found}, its metadata names {named}."
        )
    return arrays


def read_model_metadata(content: bytes) -> dict[str, str]:
    """What `write_model_file` says of the weights in a sound `model.safetensors`.

    weights_version, weights_digest, architecture, and model: its section as JSON. Empty for a
    file of another writer.
    """
    size = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    metadata: dict[str, str] = json.loads(entries.get(_METADATA_KEY, "{}"))
    return metadata


def _info(header: Mapping[str, object]) -> WeightsInfo:
    return WeightsInfo(
        version=int(str(header["version"])),
        digest=str(header["digest"]),
        architecture=str(header["architecture"]),
        format="half" if header["format"] == "half" else "lossless",
    )
