"""Packed buffers: a header and named numpy arrays as one compressed, checksummed block of bytes.

Rollouts and weights are sent and stored in this one format. This module knows arrays and bytes, not
their meaning; `packed_rollout.py` and `network/weights.py` know it. Nothing is ever unpickled. A
buffer that is damaged, truncated, foreign or of a newer schema raises an error of its own before
memory of the size that it claims is allocated. A sound buffer can still be far larger than what
its reader expects: `unpack` lets the reader refuse the fields before anything is decompressed.

    offset  bytes  content
    0       4      MAGIC
    4       4      H, length of the header, little-endian
    8       16     digest of bytes 0..7 and the header
    24      H      header: msgpack map {schema, kind, codec, raw_bytes, payload_bytes,
                   checksum (digest of the payload), fields, meta}
    24 + H  ...    payload: one zstd frame of all fields, laid out by payload.py

Digests are 16 bytes of BLAKE2b. They detect damage; they are not a signature. The header has a
digest of its own, so that `peek` can trust it without reading the payload. Sizes and times measured
on rollouts are in packed_rollout.py.
"""

import hashlib
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from reprlib import repr as shortened
from typing import Final, NamedTuple, TypeAlias

import msgpack
import numpy as np
import numpy.typing as npt

from keisei_ray.errors import DamagedBufferError, ForeignBufferError, NewerSchemaError
from keisei_ray.rollouts.payload import Array, FieldLayout, compress, decompress, plan_layout

MAGIC: Final = b"KSR1"
"""First bytes of every packed buffer."""
SCHEMA: Final = 1
"""The header schema that this program writes, and the newest that it reads."""
CODEC: Final = "zstd"
"""Name of the compression in the header."""
DIGEST_BYTES: Final = 16
"""Length of a digest."""
MAX_HEADER_BYTES: Final = 4 << 20
"""Longest header that is written or read."""

PackedBuffer: TypeAlias = npt.NDArray[np.uint8]
"""[bytes] uint8, read-only: what `pack` returns. Ray sends such an array without copying it."""
BufferLike: TypeAlias = bytes | bytearray | memoryview | PackedBuffer
"""A packed buffer, or its bytes in any other form: what `unpack` and `peek` accept."""
Scalar: TypeAlias = int | float | str | bool | None
"""Type of the values in a header."""
FieldsCheck: TypeAlias = Callable[[dict[str, Scalar], Sequence[FieldLayout]], object]
"""Raises if the fields that a header announces, with its values, are not those of a record."""

_PREFIX = struct.Struct("<4sI")
_HEADER_START = _PREFIX.size + DIGEST_BYTES


class _Frame(NamedTuple):
    """A buffer whose header has been verified and whose payload has not."""

    fields: list[FieldLayout]
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
) -> PackedBuffer:
    """Packs a header and named arrays into one buffer. Copies the arrays and does not change them.

    Args:
        kind: kind of buffer, for example "rollout"; `unpack` must ask for the same.
        header: name -> int, float, str, bool or None.
        arrays: name -> array of any shape and memory layout, of a dtype in `payload.DTYPES`.
        zstd_level: 1 (fast) to 22 (small).
        shuffle: names of arrays to store byte-shuffled (see payload.py).

    Returns:
        [bytes] uint8, read-only. The same input gives the same bytes.

    Raises:
        ValueError: a dtype is not in `payload.DTYPES`, a header value is not a scalar, `shuffle`
            names an unknown array, or a size is beyond the limits here and in payload.py.
    """
    if unknown := sorted(set(shuffle) - set(arrays)):
        raise ValueError(f"shuffle names {unknown[0]!r}, which is not among the arrays.")
    _check_meta(header)
    rows = [[n, a.dtype.str, list(a.shape), n in shuffle] for n, a in arrays.items()]
    fields, raw_bytes = plan_layout(rows)
    payload = compress(fields, raw_bytes, arrays, zstd_level)
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


def unpack(
    buffer: BufferLike, kind: str, check: FieldsCheck | None = None
) -> tuple[dict[str, Scalar], dict[str, Array]]:
    """Verifies a packed buffer and returns its header and arrays.

    Args:
        buffer: what `pack` returned, or a copy of its bytes.
        kind: kind that the buffer must be of.
        check: refuses a header and its fields before anything is decompressed.

    Returns:
        The header and the arrays by name, C-contiguous, aligned, writable and independent
        of `buffer`. Arrays may share one allocation with each other.

    Raises:
        DamagedBufferError: the buffer is truncated, changed, or contradicts itself.
        ForeignBufferError: the bytes are not a packed buffer, or one of another kind.
        NewerSchemaError: the buffer was written by a newer program.
        Exception: what `check` raises.
    """
    frame = _open(buffer, kind)
    if check is not None:
        check(frame.meta, frame.fields)
    if _digest(frame.payload) != frame.checksum:
        raise DamagedBufferError(f"{kind} buffer: the payload does not match its checksum.")
    return frame.meta, decompress(frame.fields, frame.raw_bytes, frame.payload)


def peek(buffer: BufferLike, kind: str) -> dict[str, Scalar]:
    """Verifies the header by its own digest and returns it. Does not read the payload.

    Raises:
        DamagedBufferError, ForeignBufferError, NewerSchemaError: as `unpack` does, except that
            changed bytes in the payload are not noticed.
    """
    return _open(buffer, kind).meta


def _digest(*parts: bytes | memoryview) -> bytes:
    """BLAKE2b digest of all parts, one after the other."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _check_meta(meta: Mapping[str, Scalar]) -> None:
    """Checks that names are strings and values are scalars that msgpack can hold."""
    for name, value in meta.items():
        if not isinstance(name, str) or not isinstance(value, Scalar):
            raise ValueError(
                f"header: {shortened(name)} = {shortened(value)} is not a named scalar."
            )
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"header: {shortened(name)} = {value} does not fit in 64 bits.")


def _view(buffer: BufferLike) -> memoryview:
    """Returns the buffer's bytes as one flat view."""
    if isinstance(buffer, np.ndarray) and buffer.dtype == np.uint8:
        buffer = buffer.data
    if not isinstance(buffer, bytes | bytearray | memoryview):
        raise ForeignBufferError(f"a {type(buffer).__name__} is not a packed buffer of bytes.")
    view = memoryview(buffer)
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def _open(buffer: BufferLike, kind: str) -> _Frame:
    """Verifies everything except the content of the payload."""
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
    """Parses a header whose digest matches; its content may still be newer, foreign or false."""
    try:
        header = msgpack.unpackb(head)
    except (ValueError, msgpack.UnpackException) as error:
        raise DamagedBufferError(f"{kind} buffer: the header is no msgpack: {error}.") from error
    schema = header.get("schema") if isinstance(header, dict) else None
    if type(schema) is not int or schema < 1:
        raise DamagedBufferError(f"{kind} buffer: schema {shortened(schema)} in the header.")
    if schema > SCHEMA:
        raise NewerSchemaError(
            f"{kind} buffer has schema {schema}; this program reads up to {SCHEMA}. Upgrade it."
        )
    if header.get("kind") != kind or header.get("codec") != CODEC:
        raise ForeignBufferError(
            f"a buffer of kind {shortened(header.get('kind'))}, codec "
            f"{shortened(header.get('codec'))}; "
            f"expected {kind!r}, {CODEC!r}."
        )
    rows, meta, checksum = header.get("fields"), header.get("meta"), header.get("checksum")
    if not (isinstance(rows, list) and isinstance(meta, dict) and isinstance(checksum, bytes)):
        raise DamagedBufferError(f"{kind} buffer: the header lacks fields, meta or checksum.")
    try:
        fields, raw_bytes = plan_layout(rows)
        _check_meta(meta)
    except ValueError as error:
        raise DamagedBufferError(f"{kind} buffer: {error}") from error
    if header.get("raw_bytes") != raw_bytes:
        raise DamagedBufferError(
            f"{kind} buffer: raw_bytes = {shortened(header.get('raw_bytes'))}, its fields take "
            f"{raw_bytes}."
        )
    if header.get("payload_bytes") != len(payload):
        raise DamagedBufferError(
            f"{kind} buffer: {len(payload)} bytes of payload, expected "
            f"{shortened(header.get('payload_bytes'))}: truncated, or followed by something else."
        )
    return _Frame(fields, raw_bytes, checksum, meta, payload)
