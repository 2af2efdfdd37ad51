"""A model's weights as one versioned, digested buffer, and back.

The buffer carries what is needed to trust it: the weights version, the digest of the exact
float32 weights, and the digest of the architecture. Lossless buffers give back the same bits;
half-precision ones are half the size and give back weights that are only close, so the policy
that acts is then not quite the policy that is updated.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from keisei_ray import codec
from keisei_ray.errors import CheckpointError
from keisei_ray.model import PolicyValueNet, architecture_digest

WeightsFormat = Literal["lossless", "half"]
KIND = "weights"


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
) -> npt.NDArray[np.uint8]:
    """One buffer with the model's weights, to be published under `version`."""
    arrays = state_arrays(model)
    header: dict[str, codec.Scalar] = {
        "version": version,
        "digest": digest(arrays),
        "architecture": architecture_digest(model.config),
        "format": weights_format,
    }
    stored: dict[str, npt.NDArray[np.generic]] = dict(arrays)
    if weights_format == "half":
        stored = {name: array.astype(np.float16) for name, array in arrays.items()}
    # Bytes of equal significance side by side: exponents compress, mantissas do not.
    return codec.pack(KIND, header, stored, zstd_level=zstd_level, shuffle=frozenset(stored))


def peek_weights(buffer: codec.Buffer) -> WeightsInfo:
    """Version and digests without unpacking the weights."""
    return _info(codec.peek(buffer, KIND))


def load_weights(model: PolicyValueNet, buffer: codec.Buffer) -> WeightsInfo:
    """Overwrites the model's weights in place.

    Raises:
        WireError: the buffer is damaged, foreign or newer.
        CheckpointError: the weights belong to another architecture.
    """
    header, arrays = codec.unpack(buffer, KIND)
    info = _info(header)
    load_arrays(model, {name: array.astype(np.float32) for name, array in arrays.items()})
    return info


def load_arrays(model: PolicyValueNet, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Overwrites the model's weights in place from named arrays.

    Raises:
        CheckpointError: a name or a shape is not this architecture's.
    """
    own = model.state_dict()
    if own.keys() != arrays.keys():
        odd = sorted(own.keys() ^ arrays.keys())
        raise CheckpointError(
            f"weights of another architecture: {len(odd)} names differ, first {odd[0]!r}. "
            "Use the model section they were trained with."
        )
    for name, tensor in own.items():
        array = arrays[name]
        if tuple(tensor.shape) != array.shape:
            raise CheckpointError(
                f"weights of another architecture: {name} has shape {array.shape}, expected "
                f"{tuple(tensor.shape)}. Use the model section they were trained with."
            )
        tensor.copy_(torch.from_numpy(np.array(array)))


def _info(header: Mapping[str, object]) -> WeightsInfo:
    return WeightsInfo(
        version=int(str(header["version"])),
        digest=str(header["digest"]),
        architecture=str(header["architecture"]),
        format="half" if header["format"] == "half" else "lossless",
    )
