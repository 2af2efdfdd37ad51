"""The header of packed weights, read without torch.

`network/weights.py` packs and unpacks the weights themselves. The driver, which never loads torch,
reads only this.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Final, Literal, cast, get_args

from keisei_ray.errors import DamagedBufferError
from keisei_ray.rollouts import packed_buffer

WeightsFormat = Literal["lossless", "half"]
"""Precision of published weights: float32, or float16."""
KIND: Final = "weights"
"""Kind of these buffers in their header."""

_DIGEST: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightsInfo:
    """The header of a weights buffer."""

    version: int
    """Updates behind these weights; 0 = initial."""
    digest: str
    """SHA-256 of the learner's float32 weights, names and shapes included."""
    architecture: str
    """`model.architecture_digest` of the model section they were built with."""
    format: WeightsFormat
    """Precision of the buffer."""


def weights_info(header: Mapping[str, packed_buffer.Scalar]) -> WeightsInfo:
    """Makes the typed header of a weights buffer.

    Raises:
        DamagedBufferError: it is not the header of weights.
    """
    version, digest = header.get("version"), header.get("digest")
    architecture, precision = header.get("architecture"), header.get("format")
    if type(version) is not int or not 0 <= version < 1 << 63:
        raise _bad("version", version, "an integer >= 0")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _bad("digest", digest, "a SHA-256 in hex")
    if not isinstance(architecture, str):
        raise _bad("architecture", architecture, "a digest")
    if precision not in get_args(WeightsFormat):
        raise _bad("format", precision, "lossless or half")
    return WeightsInfo(version, digest, architecture, cast(WeightsFormat, precision))


def peek_weights(buffer: packed_buffer.BufferLike) -> WeightsInfo:
    """Returns version and digests without unpacking the weights.

    Raises:
        WireError: see `packed_buffer.peek`; also where the header is not that of weights.
    """
    return weights_info(packed_buffer.peek(buffer, KIND))


def _bad(name: str, value: object, expected: str) -> DamagedBufferError:
    return DamagedBufferError(f"weights buffer: {name} = {shortened(value)}, expected {expected}.")
