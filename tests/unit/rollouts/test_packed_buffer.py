"""Packed buffers: identity round trips, and every kind of damage refused by name."""

import resource
import tracemalloc
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keisei_ray.errors import (
    ConfigError,
    DamagedBufferError,
    ForeignBufferError,
    NewerSchemaError,
    WireError,
)
from keisei_ray.rollouts.packed_buffer import (
    MAGIC,
    MAX_HEADER_BYTES,
    Scalar,
    _digest,
    pack,
    peek,
    unpack,
)
from keisei_ray.rollouts.payload import DTYPES, MAX_RAW_BYTES, FieldLayout
from tests.helpers.arrays import assert_same

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


def small() -> np.ndarray:
    arrays = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.array([True, False])}
    return pack("rollout", {"actor": 3, "x": 0.5}, arrays, zstd_level=1, shuffle={"a"})


def forge(changes: dict[str, Any], payload: bytes | None = None) -> bytes:
    """`small()` with other header entries and correct digests, as only a program can write it."""
    whole = small().tobytes()
    size = int.from_bytes(whole[4:8], "little")
    header = msgpack.unpackb(whole[24 : 24 + size])
    payload = whole[24 + size :] if payload is None else payload
    header |= {"payload_bytes": len(payload), "checksum": _digest(payload)} | changes
    head: bytes = msgpack.packb(header)
    prefix = MAGIC + len(head).to_bytes(4, "little")
    return prefix + _digest(prefix, head) + head + payload


@settings(deadline=None, max_examples=150)
@given(
    header=st.dictionaries(st.text(max_size=5), SCALARS, max_size=4),
    arrays=st.dictionaries(st.text(max_size=5), ARRAYS, max_size=5),
    data=st.data(),
)
def test_round_trip_is_the_identity(
    header: dict[str, Any], arrays: dict[str, Any], data: st.DataObject
) -> None:
    names = st.sets(st.sampled_from(sorted(arrays))) if arrays else st.just(set())
    buffer = pack("k", header, arrays, zstd_level=1, shuffle=data.draw(names))
    got_header, got_arrays = unpack(buffer, "k")
    assert got_header == header
    assert {k: type(v) for k, v in got_header.items()} == {k: type(v) for k, v in header.items()}
    assert peek(buffer, "k") == header
    assert_same(got_arrays, arrays)


@settings(deadline=None, max_examples=100)
@given(
    array=ARRAYS.filter(lambda a: a.ndim >= 1),
    data=st.data(),
    shuffled=st.booleans(),
)
def test_strided_reversed_and_transposed_arrays_round_trip(
    array: Any, data: st.DataObject, shuffled: bool
) -> None:
    index = data.draw(hnp.basic_indices(array.shape, allow_ellipsis=False))
    view = np.asarray(array[index]).T
    buffer = pack("k", {}, {"v": view}, zstd_level=1, shuffle={"v"} if shuffled else ())
    assert_same(unpack(buffer, "k")[1], {"v": view})


def test_unpacked_arrays_do_not_alias_the_buffer_or_each_other() -> None:
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.arange(5, dtype=np.uint8)}
    buffer = bytearray(pack("k", {}, arrays, zstd_level=1))
    _, got = unpack(buffer, "k")
    buffer[:] = bytes(len(buffer))
    got["a"][:] = 99
    assert_same({"b": got["b"]}, {"b": arrays["b"]})


def test_packing_is_deterministic_and_leaves_the_input_alone() -> None:
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4)}
    before = arrays["a"].copy()
    first = pack("k", {"v": 1}, arrays, zstd_level=3, shuffle={"a"})
    second = pack("k", {"v": 1}, arrays, zstd_level=3, shuffle={"a"})
    assert first.tobytes() == second.tobytes()
    np.testing.assert_array_equal(arrays["a"], before)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.asarray])
def test_every_kind_of_buffer_is_read(kind: Any) -> None:
    buffer = small()
    given_buffer = kind(buffer if kind in (np.asarray, memoryview) else buffer.tobytes())
    header, arrays = unpack(given_buffer, "rollout")
    assert header == {"actor": 3, "x": 0.5}
    assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    strided = np.repeat(buffer, 2)[::2]
    assert not strided.flags.c_contiguous
    assert unpack(strided, "rollout")[0] == header
    assert unpack(strided.data, "rollout")[0] == header


def test_every_changed_bit_is_a_named_error() -> None:
    whole = small().tobytes()
    unpack(whole, "rollout")
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            expected = ForeignBufferError if place < 4 else DamagedBufferError
            with pytest.raises(expected):
                unpack(damaged, "rollout")


def test_every_other_byte_value_is_a_named_error() -> None:
    whole = small().tobytes()
    for place in range(len(whole)):
        for value in set(range(256)) - {whole[place]}:
            damaged = bytearray(whole)
            damaged[place] = value
            with pytest.raises(WireError):
                unpack(damaged, "rollout")


def test_every_truncation_and_anything_appended_is_a_named_error() -> None:
    whole = small().tobytes()
    for size in range(len(whole)):
        with pytest.raises(DamagedBufferError):
            unpack(np.frombuffer(whole[:size], np.uint8), "rollout")
        with pytest.raises(DamagedBufferError):
            peek(whole[:size], "rollout")
    for extra in (b"\0", whole):
        with pytest.raises(DamagedBufferError, match="followed by something else"):
            peek(whole + extra, "rollout")


def test_peek_sees_every_changed_header_byte() -> None:
    whole = small().tobytes()
    end = 24 + int.from_bytes(whole[4:8], "little")
    for place in range(end):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        with pytest.raises(WireError):
            peek(damaged, "rollout")


@pytest.mark.parametrize(
    "foreign",
    [
        b"\x80\x04\x95" + bytes(40),
        b"PK\x03\x04" + bytes(40),
        zstandard.compress(b"hello"),
        np.zeros(64, np.uint8),
        np.zeros(64, np.float32),
        "KSR1",
        None,
        [1, 2],
    ],
    ids=lambda value: type(value).__name__,
)
def test_foreign_buffers_are_named(foreign: Any) -> None:
    for read in (unpack, peek):
        with pytest.raises(ForeignBufferError):
            read(foreign, "rollout")


def test_a_buffer_of_another_kind_or_codec_is_foreign() -> None:
    with pytest.raises(ForeignBufferError, match=r"'rollout'.*expected 'weights'"):
        unpack(small(), "weights")
    with pytest.raises(ForeignBufferError, match="'lz4'"):
        unpack(forge({"codec": "lz4"}), "rollout")


def test_a_newer_schema_is_named_with_both_versions() -> None:
    with pytest.raises(NewerSchemaError, match=r"schema 2; this program reads up to 1"):
        peek(forge({"schema": 2}), "rollout")


@pytest.mark.parametrize("schema", [0, -1, True, None, "1", 1.0])
def test_a_schema_that_is_no_version_is_damage(schema: Any) -> None:
    with pytest.raises(DamagedBufferError, match="schema"):
        peek(forge({"schema": schema}), "rollout")


FIELD = ["a", "<i2", [2, 3], False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": None}, "lacks fields"),
        ({"fields": {"a": 1}}, "lacks fields"),
        ({"fields": ["a"]}, "field 'a' is not"),
        ({"fields": [["a", "<i2", [2, 3]]]}, "is not [name, dtype, shape, shuffled]"),
        ({"fields": [FIELD, FIELD]}, "no name of its own"),
        ({"fields": [[1, "<i2", [2, 3], False]]}, "no name of its own"),
        ({"fields": [["a", "<i2", [2, 3], 1]]}, "no shuffle flag"),
        ({"fields": [["a", "|O", [2, 3], False]]}, "dtype '|O'"),
        ({"fields": [["a", "<M8[s]", [2, 3], False]]}, "dtype '<M8[s]'"),
        ({"fields": [["a", ["<i2"], [2, 3], False]]}, "dtype ['<i2']"),
        ({"fields": [["a", ">i2", [2, 3], False]]}, "dtype '>i2'"),
        ({"fields": [["a", "<i2", [2, -3], False]]}, "expected sizes >= 0"),
        ({"fields": [["a", "<i2", [2, 1.5], False]]}, "expected sizes >= 0"),
        ({"fields": [["a", "<i2", [True, 6], False]]}, "expected sizes >= 0"),
        ({"fields": [["a", "<i2", 6, False]]}, "up to 32 sizes"),
        ({"fields": [["a", "<i2", [1] * 33, False]]}, "up to 32 sizes"),
        ({"raw_bytes": 19}, "raw_bytes = 19, its fields take 18"),
        ({"raw_bytes": "18"}, "raw_bytes = '18'"),
        ({"meta": None}, "lacks fields, meta"),
        ({"meta": {"x": [1]}}, "'x' = [1] is not a named scalar"),
        ({"meta": {"x": {"y": 1}}}, "not a named scalar"),
        ({"meta": {"x": b"1"}}, "not a named scalar"),
        ({"meta": {"x": msgpack.Timestamp(1)}}, "not a named scalar"),
        ({"checksum": "text"}, "or checksum"),
        ({"checksum": bytes(16)}, "does not match its checksum"),
        ({"payload_bytes": 1}, "expected 1: truncated"),
        ({"payload_bytes": None}, "expected None"),
    ],
    ids=str,
)
def test_a_header_that_contradicts_itself_is_damage_whatever_its_digests(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DamagedBufferError) as refusal:
        unpack(forge(changes), "rollout")
    assert message in str(refusal.value)


def test_a_header_longer_than_the_buffer_or_the_limit_is_damage() -> None:
    whole = small().tobytes()
    for size, extra in (
        (len(whole), 0),
        (MAX_HEADER_BYTES + 1, 8 << 20),
        (2**32 - 1, 0),
    ):
        lying = whole[:4] + size.to_bytes(4, "little") + whole[8:] + bytes(extra)
        with pytest.raises(DamagedBufferError, match=f"claims a header of {size}"):
            peek(lying, "rollout")


@pytest.mark.parametrize("head", [b"", b"\xc1", b"\x93\x01", b"\x81\x90\x01", b"\x01", b"\x80"])
def test_a_header_that_is_no_map_is_damage_whatever_its_digest(head: bytes) -> None:
    prefix = MAGIC + len(head).to_bytes(4, "little")
    with pytest.raises(DamagedBufferError):
        peek(prefix + _digest(prefix, head) + head, "rollout")


def test_a_payload_of_another_content_is_damage_whatever_its_digest() -> None:
    raw = bytes(18)  # 12 bytes of "a", 4 of padding, 2 of "b".
    for payload in (
        b"",
        b"not zstd",
        zstandard.compress(bytes(17)),
        zstandard.compress(bytes(19)),
        zstandard.compress(raw)[:-1],
    ):
        with pytest.raises(DamagedBufferError):
            unpack(forge({}, payload), "rollout")
    assert unpack(forge({}, zstandard.compress(raw)), "rollout")[1]["a"].sum() == 0


def test_a_frame_that_asks_for_a_window_beyond_its_data_is_damage() -> None:
    """The decompressor would allocate the window, here of 128 MB, whatever the frame holds."""
    block = (1 | 18 << 3).to_bytes(3, "little") + bytes(18)
    for exponent in (17, 8):
        frame = zstandard.FRAME_HEADER + bytes([0, exponent << 3]) + block
        with pytest.raises(DamagedBufferError, match="no zstd frame"):
            unpack(forge({}, frame), "rollout")
    unpack(forge({}, zstandard.FRAME_HEADER + bytes([0, 0]) + block), "rollout")


def test_a_message_about_a_header_stays_short() -> None:
    crafted: tuple[dict[str, Any], ...] = (
        {"kind": "k" * 10**6},
        {"meta": {"x" * 10**6: []}},
        {"fields": ["f" * 10**6]},
    )
    for changes in crafted:
        with pytest.raises(WireError) as refusal:
            unpack(forge(changes), "rollout")
        assert len(str(refusal.value)) < 300


def test_a_check_of_the_fields_comes_before_the_payload_is_read() -> None:
    def refuse(header: dict[str, Scalar], fields: Sequence[FieldLayout]) -> None:
        assert [field.name for field in fields] == ["a", "b"]
        raise ConfigError("not these")

    with pytest.raises(ConfigError, match="not these"):
        unpack(forge({}, b"no payload"), "rollout", refuse)


def test_a_bool_that_is_neither_true_nor_false_is_damage() -> None:
    with pytest.raises(DamagedBufferError, match="'b' holds a bool"):
        unpack(forge({}, zstandard.compress(bytes(16) + b"\x02\x00")), "rollout")


@pytest.mark.parametrize("claimed", [1 << 30, 7 << 30, 1 << 40, 1 << 62, 1 << 63])
def test_false_sizes_in_a_header_allocate_no_memory(claimed: int) -> None:
    """Consistent fields, correct digests, and a zstd frame that claims the same false size."""
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(1 << 20)))
    honest = zstandard.frame_content_size(bytes(frame))
    assert honest == 1 << 20
    lying = frame[:4] + b"\xe0" + (claimed % (1 << 64)).to_bytes(8, "little") + frame[9:]
    fields = [["a", "|u1", [claimed], False]]
    for payload in (bytes(frame), bytes(lying), b"", bytes(1 << 20)):
        forged = forge({"fields": fields, "raw_bytes": claimed}, payload)
        tracemalloc.start()
        peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with pytest.raises(DamagedBufferError):
                unpack(forged, "rollout")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 64 << 10  # KiB


@pytest.mark.parametrize("shape", [[0, 1 << 62, 1 << 62], [1 << 62, 1 << 62], [2**64 - 1]])
def test_shapes_beyond_any_memory_are_damage(shape: list[int]) -> None:
    with pytest.raises(DamagedBufferError, match=str(MAX_RAW_BYTES)):
        unpack(forge({"fields": [["a", "|u1", shape, False]]}), "rollout")


def test_a_buffer_that_really_shrinks_a_thousandfold_round_trips() -> None:
    zeros = {"z": np.zeros((40, 1 << 20), np.uint8), "one": np.ones(1, np.uint8)}
    buffer = pack("k", {}, zeros, zstd_level=1)
    assert zeros["z"].nbytes / buffer.nbytes > 1000
    assert_same(unpack(buffer, "k")[1], zeros)


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([1j]),
        np.array([1], ">i4"),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, [("x", "i4")]),
    ],
    ids=lambda array: array.dtype.str,
)
def test_dtypes_that_cannot_be_packed_are_refused_by_name(array: Any) -> None:
    with pytest.raises(ValueError, match="'a' has dtype"):
        pack("k", {}, {"a": array}, zstd_level=1)


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"x", object(), 1 << 64, -(1 << 63) - 1])
def test_header_values_that_cannot_be_packed_are_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="'v'"):
        pack("k", {"v": value}, {}, zstd_level=1)


def test_shuffling_an_unknown_array_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'b'"):
        pack("k", {}, {"a": np.zeros(1)}, zstd_level=1, shuffle={"b"})


def test_shuffling_makes_a_megabyte_of_weights_smaller() -> None:
    floats = {"a": np.random.default_rng(0).normal(0, 0.05, 1 << 18).astype(np.float32)}
    plain = pack("k", {}, floats, zstd_level=1)
    shuffled = pack("k", {}, floats, zstd_level=1, shuffle={"a"})
    assert shuffled.nbytes < 0.95 * plain.nbytes
