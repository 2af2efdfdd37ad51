"""The payload of a packed buffer: named arrays laid end to end and compressed, and back.

Every field starts at a multiple of ALIGNMENT, so that arrays read back are aligned views
of one allocation. A field may be stored shuffled: all first bytes of its items, then all
second bytes, and so on, which puts the alike exponents of floats side by side.

The sizes come from a header that may lie. `plan` bounds them without allocating, and
`decompress` allocates only what the compressed bytes can fill. Checksums and names of
buffers are packed_buffer.py's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import zstandard

from keisei_ray.errors import DamagedBufferError

ALIGNMENT: Final = 16
"""Bytes; every field starts on a multiple of it, so unpacked views are aligned."""
MAX_RAW_BYTES: Final = 8 << 30
"""No buffer claims more than this uncompressed; a 20 x 256 network is about 0.1 GB."""
TRUSTED_RATIO: Final = 64
"""A payload that claims to grow by more is first decompressed only to be counted."""
TRUSTED_BYTES: Final = 8 << 20
"""Claims up to this size are allocated without counting first."""
DTYPES: Final = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
)

Array: TypeAlias = npt.NDArray[Any]


class Field(NamedTuple):
    """One array's place in the uncompressed payload."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shuffled: bool
    offset: int
    nbytes: int


def plan(rows: Sequence[Any]) -> tuple[list[Field], int]:
    """Where each field lies in the payload, and the payload's size, from the header's rows.

    Allocates nothing. Raises ValueError for anything that is not a list of distinct
    [name, dtype, shape, shuffled] within the limits.
    """
    fields: dict[str, Field] = {}
    end = 0
    for row in rows:
        if not isinstance(row, list) or len(row) != 4:
            raise ValueError(f"field {row!r} is not [name, dtype, shape, shuffled].")
        name, code, shape, shuffled = row
        if not isinstance(name, str) or name in fields or not isinstance(shuffled, bool):
            raise ValueError(f"field {row!r} has no name of its own, or no shuffle flag.")
        if not isinstance(code, str) or code not in DTYPES:
            raise ValueError(f"field {name!r} has dtype {code!r}; expected {sorted(DTYPES)}.")
        if not isinstance(shape, list) or len(shape) > 32:
            raise ValueError(f"field {name!r} has shape {shape!r}; expected up to 32 sizes.")
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"field {name!r} has shape {shape!r}; expected sizes >= 0.")
        dtype = np.dtype(code)
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        end = offset + math.prod(shape) * dtype.itemsize
        # Empty arrays too: numpy refuses shapes whose nonzero sizes multiply beyond memory.
        extent = math.prod(max(size, 1) for size in shape) * dtype.itemsize
        if max(end, extent) > MAX_RAW_BYTES:
            raise ValueError(f"field {name!r} with shape {shape!r} passes {MAX_RAW_BYTES} bytes.")
        fields[name] = Field(name, dtype, tuple(shape), shuffled, offset, end - offset)
    return list(fields.values()), end


def compress(
    fields: Sequence[Field], raw_bytes: int, arrays: Mapping[str, Array], zstd_level: int
) -> bytes:
    """The arrays as one zstd frame, laid out by `plan`. Copies; any memory layout will do."""
    raw = np.zeros(raw_bytes, np.uint8)
    for field in fields:
        _store(raw, field, arrays[field.name])
    packed: bytes = zstandard.ZstdCompressor(level=zstd_level).compress(raw.data)
    return packed


def decompress(fields: Sequence[Field], raw_bytes: int, payload: memoryview) -> dict[str, Array]:
    """The arrays of a payload: writable, C-contiguous, aligned; they share one allocation.

    A claim far above what payloads grow by is first decompressed only to be counted, so
    memory is allocated once and only if the payload can fill it.

    Raises:
        DamagedBufferError: no zstd frame, not exactly `raw_bytes` long, or a bool that is
            neither 0 nor 1.
    """
    if raw_bytes > max(TRUSTED_BYTES, TRUSTED_RATIO * len(payload)):
        _read_exactly(payload, raw_bytes, None)
    raw = np.empty(raw_bytes, np.uint8)
    _read_exactly(payload, raw_bytes, raw)
    return {field.name: _load(raw, field) for field in fields}


def _store(raw: npt.NDArray[np.uint8], field: Field, array: Array) -> None:
    """Copy one array of any layout to its place, shuffled if its field says so."""
    place = raw[field.offset : field.offset + field.nbytes]
    if field.shuffled:
        items = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        width = field.dtype.itemsize
        place.reshape(width, -1)[...] = items.reshape(-1, width).T
    else:
        place.view(field.dtype).reshape(field.shape)[...] = array


def _load(raw: npt.NDArray[np.uint8], field: Field) -> Array:
    """One array out of the payload: a view, or a copy if it was shuffled."""
    place = raw[field.offset : field.offset + field.nbytes]
    if field.dtype == np.bool_ and place.max(initial=0) > 1:
        raise DamagedBufferError(f"field {field.name!r} holds a bool that is neither 0 nor 1.")
    if not field.shuffled:
        return place.view(field.dtype).reshape(field.shape)
    array = np.empty(field.shape, field.dtype)
    width = field.dtype.itemsize
    array.reshape(-1).view(np.uint8).reshape(-1, width)[...] = place.reshape(width, -1).T
    return array


def _read_exactly(payload: memoryview, size: int, into: npt.NDArray[np.uint8] | None) -> None:
    """Decompress into `into`, or only count if None; raises unless it is exactly `size` bytes."""
    scratch = None if into is not None else np.empty(1 << 20, np.uint8)
    filled = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(payload) as reader:
            while filled < size:
                target = into[filled:] if into is not None else scratch
                if not (count := reader.readinto(target)):
                    break
                filled += count
            complete = filled == size and not reader.read(1)
    except zstandard.ZstdError as error:
        raise DamagedBufferError(f"the payload is no zstd frame: {error}.") from error
    if not complete:
        raise DamagedBufferError(f"the payload does not hold exactly the {size} bytes it claims.")
