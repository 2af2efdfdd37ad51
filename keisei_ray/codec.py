"""A header and named numpy arrays as one packed, checked, compressed buffer, and back.

Rollouts and weights travel and are stored in this one format. The room knows arrays and
bytes, not what they mean: wire.py and weights.py do. Nothing is ever unpickled, and a
buffer that is damaged, truncated, foreign or newer is refused by name before anything
of the size that it claims is allocated.

    offset  bytes  content
    0       4      MAGIC
    4       4      H, length of the header, little-endian
    8       16     digest of bytes 0..7 and the header
    24      H      header: msgpack map {schema, kind, codec, raw_bytes, payload_bytes,
                   checksum (digest of the payload), fields, meta}
    24 + H  ...    payload: one zstd frame of all fields, each from an ALIGNMENT boundary

Digests are BLAKE2b, 16 bytes: they find damage and are no signature. The header has its
own, so `peek` trusts it without touching the payload.

A field may be stored shuffled: all first bytes of its items, then all second bytes, and
so on, which puts the alike exponents of floats side by side. Measured figures for
rollouts are in wire.py.
"""

import hashlib
import math
import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack
import numpy as np
import numpy.typing as npt
import zstandard

from keisei_ray.errors import (
    DamagedBufferError,
    ForeignBufferError,
    NewerSchemaError,
    RunDirError,
)
from keisei_ray.files import write_atomically

MAGIC: Final = b"KSR1"
SCHEMA: Final = 1
"""The header schema that this program writes, and the newest that it reads."""
CODEC: Final = "zstd"
DIGEST_BYTES: Final = 16
ALIGNMENT: Final = 16
"""Bytes; every field starts on a multiple of it, so unpacked views are aligned."""
MAX_HEADER_BYTES: Final = 4 << 20
MAX_RAW_BYTES: Final = 8 << 30
"""No buffer claims more than this uncompressed; a 20 x 256 network is about 0.1 GB."""
TRUSTED_RATIO: Final = 64
"""A payload that claims to grow by more is first decompressed only to be counted."""
TRUSTED_BYTES: Final = 8 << 20
"""Claims up to this size are allocated without counting first."""
DTYPES: Final = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
)

Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]
Scalar: TypeAlias = int | float | str | bool | None
Array: TypeAlias = npt.NDArray[Any]

_PREFIX = struct.Struct("<4sI")
_HEADER_START = _PREFIX.size + DIGEST_BYTES


class _Field(NamedTuple):
    """One array's place in the payload."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shuffled: bool
    offset: int
    nbytes: int


class _Frame(NamedTuple):
    """A buffer whose header has been verified and whose payload has not."""

    fields: list[_Field]
    raw_bytes: int
    checksum: bytes
    meta: dict[str, Scalar]
    payload: memoryview


def pack(
    kind: str,
    header: Mapping[str, Scalar],
    arrays: Mapping[str, Array],
    *,
    zstd_level: int,
    shuffle: Collection[str] = (),
) -> npt.NDArray[np.uint8]:
    """Pack a header and named arrays into one buffer. Copies; the arrays stay the caller's.

    Args:
        kind: what the buffer is, e.g. "rollout"; `unpack` must ask for the same.
        header: names to int, float, str, bool or None.
        arrays: names to arrays of any shape and layout, of a dtype in `DTYPES`.
        zstd_level: 1 (fast) to 22 (small).
        shuffle: names of arrays to store byte-shuffled.

    Returns:
        [bytes] uint8, read-only. The same input gives the same bytes.

    Raises:
        ValueError: a dtype outside `DTYPES`, a header value that is no scalar, an unknown
            name in `shuffle`, or sizes above the limits of this module.
    """
    if unknown := sorted(set(shuffle) - set(arrays)):
        raise ValueError(f"shuffle names {unknown[0]!r}, which is not among the arrays.")
    _check_meta(header)
    rows = [[n, a.dtype.str, list(a.shape), n in shuffle] for n, a in arrays.items()]
    fields, raw_bytes = _plan(rows)
    raw = np.zeros(raw_bytes, np.uint8)
    for field in fields:
        _store(raw, field, arrays[field.name])
    payload = zstandard.ZstdCompressor(level=zstd_level).compress(raw.data)
    head = msgpack.packb(
        {
            "schema": SCHEMA,
            "kind": kind,
            "codec": CODEC,
            "raw_bytes": raw_bytes,
            "payload_bytes": len(payload),
            "checksum": _digest(payload),
            "fields": rows,
            "meta": dict(header),
        }
    )
    if len(head) > MAX_HEADER_BYTES:
        raise ValueError(f"the header takes {len(head)} bytes; the limit is {MAX_HEADER_BYTES}.")
    prefix = _PREFIX.pack(MAGIC, len(head))
    return np.frombuffer(b"".join([prefix, _digest(prefix, head), head, payload]), np.uint8)


def unpack(buffer: Buffer, kind: str) -> tuple[dict[str, Scalar], dict[str, Array]]:
    """The header and the arrays of a packed buffer, all of it verified.

    Args:
        buffer: what `pack` returned, or a copy of its bytes.
        kind: what the buffer has to be.

    Returns:
        The header and the arrays by name, C-contiguous, aligned, writable and independent
        of `buffer`. Arrays may share one allocation with each other.

    Raises:
        DamagedBufferError: truncated, changed, or contradicting itself.
        ForeignBufferError: not a packed buffer, or of another kind.
        NewerSchemaError: written by a newer program.
    """
    frame = _open(buffer, kind)
    if _digest(frame.payload) != frame.checksum:
        raise DamagedBufferError(f"{kind} buffer: the payload does not match its checksum.")
    raw = _decompress(frame.payload, frame.raw_bytes)
    return frame.meta, {field.name: _load(raw, field) for field in frame.fields}


def peek(buffer: Buffer, kind: str) -> dict[str, Scalar]:
    """The header alone, verified by its own digest; the payload is measured, not read.

    Raises:
        DamagedBufferError, ForeignBufferError, NewerSchemaError: as `unpack`, except that
            changed bytes in the payload go unseen.
    """
    return _open(buffer, kind).meta


def write_buffer(path: Path, buffer: Buffer) -> None:
    """Write a packed buffer to a file, atomically.

    Raises:
        RunDirError: the file cannot be written; an older one is untouched.
    """
    try:
        write_atomically(path, _view(buffer))
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror or error}.") from error


def read_buffer(path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a packed buffer's file, read-only and not yet verified.

    Raises:
        RunDirError: the file is missing or cannot be read.
    """
    try:
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise RunDirError(f"cannot read {path}: {error.strerror or error}.") from error


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _check_meta(meta: Mapping[str, Scalar]) -> None:
    """Names are strings and values scalars that msgpack can hold."""
    for name, value in meta.items():
        if not isinstance(name, str) or not isinstance(value, int | float | str | None):
            raise ValueError(f"header: {name!r} = {value!r} is not a named scalar.")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"header: {name!r} = {value} does not fit in 64 bits.")


def _plan(rows: Sequence[Any]) -> tuple[list[_Field], int]:
    """Where each field lies in the payload, and the payload's size, from the header's rows.

    Allocates nothing. Raises ValueError for anything that is not a list of distinct
    [name, dtype, shape, shuffled] within the limits.
    """
    fields: dict[str, _Field] = {}
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
        fields[name] = _Field(name, dtype, tuple(shape), shuffled, offset, end - offset)
    return list(fields.values()), end


def _store(raw: npt.NDArray[np.uint8], field: _Field, array: Array) -> None:
    """Copy one array of any layout to its place, shuffled if its field says so."""
    place = raw[field.offset : field.offset + field.nbytes]
    if field.shuffled:
        items = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        width = field.dtype.itemsize
        place.reshape(width, -1)[...] = items.reshape(-1, width).T
    else:
        place.view(field.dtype).reshape(field.shape)[...] = array


def _load(raw: npt.NDArray[np.uint8], field: _Field) -> Array:
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


def _view(buffer: Buffer) -> memoryview:
    """The buffer's bytes as one flat view."""
    if isinstance(buffer, np.ndarray) and buffer.dtype == np.uint8:
        buffer = np.ascontiguousarray(buffer).reshape(-1).data
    if not isinstance(buffer, bytes | bytearray | memoryview):
        raise ForeignBufferError(f"a {type(buffer).__name__} is not a packed buffer of bytes.")
    view = memoryview(buffer)
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def _open(buffer: Buffer, kind: str) -> _Frame:
    """Verify everything but the payload's content."""
    view = _view(buffer)
    if not MAGIC.startswith(view[: len(MAGIC)]):
        raise ForeignBufferError(
            f"not a packed {kind}: it starts with {bytes(view[:4])!r}, expected {MAGIC!r}."
        )
    if len(view) < _HEADER_START:
        raise DamagedBufferError(f"{kind} buffer truncated: {len(view)} bytes hold no header.")
    _, size = _PREFIX.unpack_from(view)
    payload_start = _HEADER_START + size
    if size > MAX_HEADER_BYTES or payload_start > len(view):
        raise DamagedBufferError(
            f"{kind} buffer of {len(view)} bytes claims a header of {size}: truncated or changed."
        )
    head = view[_HEADER_START:payload_start]
    if _digest(view[: _PREFIX.size], head) != view[_PREFIX.size : _HEADER_START]:
        raise DamagedBufferError(f"{kind} buffer: the header does not match its digest.")
    return _read_header(head, view[payload_start:], kind)


def _read_header(head: memoryview, payload: memoryview, kind: str) -> _Frame:
    """Parse a header whose digest matches; it may still come from a newer or odd writer."""
    try:
        header = msgpack.unpackb(head)
    except (ValueError, msgpack.UnpackException) as error:
        raise DamagedBufferError(f"{kind} buffer: the header is no msgpack: {error}.") from error
    schema = header.get("schema") if isinstance(header, dict) else None
    if type(schema) is not int or schema < 1:
        raise DamagedBufferError(f"{kind} buffer: schema {schema!r} in the header.")
    if schema > SCHEMA:
        raise NewerSchemaError(
            f"{kind} buffer has schema {schema}; this program reads up to {SCHEMA}. Upgrade it."
        )
    if header.get("kind") != kind or header.get("codec") != CODEC:
        raise ForeignBufferError(
            f"a buffer of kind {header.get('kind')!r}, codec {header.get('codec')!r}; "
            f"expected {kind!r}, {CODEC!r}."
        )
    rows, meta, checksum = header.get("fields"), header.get("meta"), header.get("checksum")
    if not (isinstance(rows, list) and isinstance(meta, dict) and isinstance(checksum, bytes)):
        raise DamagedBufferError(f"{kind} buffer: the header lacks fields, meta or checksum.")
    try:
        fields, raw_bytes = _plan(rows)
        _check_meta(meta)
    except ValueError as error:
        raise DamagedBufferError(f"{kind} buffer: {error}") from error
    if header.get("raw_bytes") != raw_bytes:
        raise DamagedBufferError(
            f"{kind} buffer: raw_bytes = {header.get('raw_bytes')!r}, its fields take {raw_bytes}."
        )
    if header.get("payload_bytes") != len(payload):
        raise DamagedBufferError(
            f"{kind} buffer: {len(payload)} bytes of payload, expected "
            f"{header.get('payload_bytes')!r}: truncated, or followed by something else."
        )
    return _Frame(fields, raw_bytes, checksum, meta, payload)


def _decompress(payload: memoryview, raw_bytes: int) -> npt.NDArray[np.uint8]:
    """The payload's content, allocated once and only if the payload can fill it.

    Raises:
        DamagedBufferError: the content is not exactly `raw_bytes` long, or no zstd frame.
    """
    if raw_bytes > max(TRUSTED_BYTES, TRUSTED_RATIO * len(payload)):
        _read_exactly(payload, raw_bytes, None)
    raw = np.empty(raw_bytes, np.uint8)
    _read_exactly(payload, raw_bytes, raw)
    return raw


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
