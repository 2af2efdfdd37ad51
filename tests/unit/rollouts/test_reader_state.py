"""The state of a reader as bytes: nothing is lost, and nothing else is read."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.reader_state import (
    Place,
    ReaderState,
    pack_reader,
    pack_readers,
    read_reader,
    read_readers,
)

PLACE = Place(4, 4, 1200, 77, "c0ffee", 1100, 2**40, (("DUPLICATE", 3, "a.csa"), ("EMPTY", 1, "")))
STATE = ReaderState(1, 2, 7, 2, PLACE)


def with_place(**changes: Any) -> ReaderState:
    return replace(STATE, place=replace(PLACE, **changes))


def test_a_state_is_read_as_it_was_packed() -> None:
    assert read_reader(pack_reader(STATE)) == STATE
    other = replace(STATE, actor_id=0)
    found = read_readers(pack_readers([pack_reader(STATE), pack_reader(other)]))
    assert found == {1: STATE, 0: other}


@pytest.mark.parametrize(
    "state",
    [
        replace(STATE, sequence=-1),
        replace(STATE, incarnation=True),
        with_place(read_in=5),
        with_place(read_in=0),
        with_place(corpus=3),
        with_place(offset=1.0),
        with_place(left_out=(("EMPTY", -1, ""),)),
        with_place(left_out=(("EMPTY", 1),)),
    ],
)
def test_a_state_in_which_no_reader_can_be_is_refused(state: ReaderState) -> None:
    with pytest.raises(CheckpointError, match="not the state of a reader of records"):
        read_reader(pack_reader(state))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not msgpack"),
        (msgpack.packb([2, []]), "schema 2; this program reads up to 1"),
        (msgpack.packb([1, [3]]), "content"),
        (msgpack.packb([1, 2, 3]), "content"),
        (pack_readers([pack_reader(STATE)] * 2), "two states of one process"),
        (pack_readers([msgpack.packb([1, 2])]), "state"),
        (pack_readers([msgpack.packb([1, 1, 2, 7, 2, []])]), "place"),
    ],
)
def test_other_content_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_readers(content)
