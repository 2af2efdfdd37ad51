"""The payload of a packed buffer: named arrays laid out one after the other and compressed.

Every field starts at a multiple of ALIGNMENT, so that arrays read back are aligned views of one
allocation. A field may be stored shuffled: first the first byte of every item, then the second byte
of every item, and so on. This puts the exponents of floats, which are alike, side by side, and they
compress better.

When a payload is read, the sizes come from a header that may be false. `plan_layout` limits them
without allocating anything, and `decompress` allocates only what the compressed bytes can fill.
Checksums and the kinds of buffers belong to `packed_buffer.py`.
"""

import math
from collections.abc import Mapping, Sequence
from reprlib import repr as shortened
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import zstandard

from keisei_ray.errors import DamagedBufferError

ALIGNMENT: Final = 16
"""Every field starts at a multiple of this many bytes."""
MAX_RAW_BYTES: Final = 8 << 30
"""Largest uncompressed payload. A network of 20 blocks and 256 channels is about 0.1 GB."""
TRUSTED_RATIO: Final = 64
"""A payload that claims to grow by a larger factor is decompressed once just to count its bytes."""
TRUSTED_BYTES: Final = 8 << 20
"""Claims up to this size are allocated without counting."""
MIN_WINDOW_BYTES: Final = 1 << 10
"""Smallest window of a zstd frame."""
DTYPES: Final = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
)
"""Dtypes of arrays that can be packed, as numpy writes them."""

Array: TypeAlias = npt.NDArray[Any]


class FieldLayout(NamedTuple):
    """Type, shape and place of one array in the uncompressed payload."""

    name: str
    """Name of the field."""
    dtype: np.dtype[Any]
    """Dtype of the array."""
    shape: tuple[int, ...]
    """Shape of the array."""
    shuffled: bool
    """Whether its bytes are stored shuffled."""
    offset: int
    """First byte in the payload."""
    nbytes: int
    """Size in bytes, without the padding that follows."""


def plan_layout(rows: Sequence[Any]) -> tuple[list[FieldLayout], int]:
    """Computes where each field lies in the payload. Allocates nothing.

    Args:
        rows: what a header says of its fields: a list of [name, dtype, shape, shuffled].

    Returns:
        The fields, in order, and the size of the uncompressed payload in bytes.

    Raises:
        ValueError: a row is something else, a name occurs twice, or a size is beyond the limits.
    """
    fields: dict[str, FieldLayout] = {}
    end = 0
    for row in rows:
        if not isinstance(row, list) or len(row) != 4:
            raise ValueError(f"field {shortened(row)} is not [name, dtype, shape, shuffled].")
        name, code, shape, shuffled = row
        if not isinstance(name, str) or name in fields or not isinstance(shuffled, bool):
            raise ValueError(f"field {shortened(row)} has no name of its own, or no shuffle flag.")
        if not isinstance(code, str) or code not in DTYPES:
            raise ValueError(
                f"field {shortened(name)} has dtype {shortened(code)}; expected {sorted(DTYPES)}."
            )
        if not isinstance(shape, list) or len(shape) > 32:
            raise ValueError(
                f"field {shortened(name)} has shape {shortened(shape)}; expected up to 32 sizes."
            )
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(
                f"field {shortened(name)} has shape {shortened(shape)}; expected sizes >= 0."
            )
        dtype = np.dtype(code)
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        end = offset + math.prod(shape) * dtype.itemsize
        # Empty arrays too: numpy refuses shapes whose nonzero sizes multiply beyond memory.
        extent = math.prod(max(size, 1) for size in shape) * dtype.itemsize
        if max(end, extent) > MAX_RAW_BYTES:
            raise ValueError(f"field {shortened(name)} passes {MAX_RAW_BYTES} bytes.")
        fields[name] = FieldLayout(name, dtype, tuple(shape), shuffled, offset, end - offset)
    return list(fields.values()), end


def compress(
    fields: Sequence[FieldLayout], raw_bytes: int, arrays: Mapping[str, Array], zstd_level: int
) -> bytes:
    """Copies the arrays into the planned layout and compresses it to one zstd frame.

    Args:
        fields: the layout, from `plan_layout`.
        raw_bytes: size of the uncompressed payload.
        arrays: field name -> array, of any memory layout.
        zstd_level: 1 (fast) to 22 (small).
    """
    raw = np.zeros(raw_bytes, np.uint8)
    for field in fields:
        _store(raw, field, arrays[field.name])
    packed: bytes = zstandard.ZstdCompressor(level=zstd_level).compress(raw.data)
    return packed


def decompress(
    fields: Sequence[FieldLayout], raw_bytes: int, payload: memoryview
) -> dict[str, Array]:
    """Decompresses a payload.

    If `raw_bytes` is far larger than the payload, the payload is first decompressed once just to
    count its bytes, so that memory is allocated only if the payload can fill it.

    Args:
        fields: the layout, from `plan_layout`.
        raw_bytes: size of the uncompressed payload.
        payload: the compressed bytes; not changed.

    Returns:
        The arrays by name: writable, C-contiguous, aligned. They may share one allocation.

    Raises:
        DamagedBufferError: the payload is not a zstd frame of exactly `raw_bytes`, or a bool is
            neither 0 nor 1.
    """
    if raw_bytes > max(TRUSTED_BYTES, TRUSTED_RATIO * len(payload)):
        _read_exactly(payload, raw_bytes, None)
    raw = np.empty(raw_bytes, np.uint8)
    _read_exactly(payload, raw_bytes, raw)
    return {field.name: _load(raw, field) for field in fields}


def _store(raw: npt.NDArray[np.uint8], field: FieldLayout, array: Array) -> None:
    """Copies one array of any memory layout to its place, shuffled if its field is."""
    place = raw[field.offset : field.offset + field.nbytes]
    if field.shuffled:
        items = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        width = field.dtype.itemsize
        place.reshape(width, -1)[...] = items.reshape(-1, width).T
    else:
        place.view(field.dtype).reshape(field.shape)[...] = array


def _load(raw: npt.NDArray[np.uint8], field: FieldLayout) -> Array:
    """Returns one array of the payload: a view, or a copy if it was shuffled."""
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
    """Decompresses into `into`, or only counts if None; raises unless there are `size` bytes."""
    scratch = None if into is not None else np.empty(1 << 20, np.uint8)
    filled = 0
    try:
        # The compressor never needs a window beyond the data; a false frame may ask for 2 GB.
        window = max(MIN_WINDOW_BYTES, size)
        decompressor = zstandard.ZstdDecompressor(max_window_size=window)
        with decompressor.stream_reader(payload) as reader:
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
