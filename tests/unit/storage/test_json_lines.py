"""Reading of a JSON lines file that grows: each record once, no line can fill the memory."""

import tracemalloc
from pathlib import Path

import pytest

from keisei_ray.storage import json_lines
from keisei_ray.storage.json_lines import (
    MAX_LINE_BYTES,
    TAIL_BYTES,
    JsonLinesReader,
    last_record,
)


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 16)
    return 16


@pytest.mark.parametrize("size", [15, 16, 17, 18, 31, 32, 33, 500])
@pytest.mark.usefixtures("short_lines")
def test_a_line_beyond_the_limit_is_damaged_and_the_next_is_read(size: int, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    line = b'{"a": "' + b"x" * (size - 10) + b'"}\n'
    assert len(line) == size
    file.write_bytes(b'{"b": 1}\n' + line + b'{"c": 2}\n')
    reader = JsonLinesReader(file)
    found = [next(iter(record)) for record in reader]
    fits = size <= 16
    assert (found, reader.damaged) == (["b", "a", "c"] if fits else ["b", "c"], 0 if fits else 1)
    with file.open("ab") as more:
        more.write(b'{"d": ' + b" " * 40)
    assert list(reader) == []
    with file.open("ab") as more:
        more.write(b'4}\n{"e": 5}\n')
    assert list(reader) == [{"e": 5}]


@pytest.mark.slow
def test_a_line_without_end_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 28)
        sparse.seek(0, 2)
        sparse.write(b'\n{"a": 1}\n')
    tracemalloc.start()
    try:
        assert list(JsonLinesReader(file)) == [{"a": 1}]
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", ["[1]", "{", '{"a": 1' + "0" * 30 + "}", "[" * 100_000, "\udcff"])
def test_a_line_that_is_no_usable_object_is_damaged(line: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(line.encode("utf-8", "surrogateescape") + b'\n{"a": 1}\n')
    reader = JsonLinesReader(file)
    assert (list(reader), reader.damaged) == ([{"a": 1}], 1)


def test_a_record_is_found_again_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n{"a": 3}')
    reader = JsonLinesReader(path)
    places = {record["a"]: reader.line_start for record in reader}
    assert {a: reader.record_at(place) for a, place in places.items()} == {1: {"a": 1}, 2: {"a": 2}}
    assert reader.record_at(places[1] + 9) is None
    assert reader.record_at(path.stat().st_size) is None
    assert reader.record_at(path.stat().st_size - 8) is None
    path.unlink()
    assert reader.record_at(0) is None


def test_a_file_that_was_cut_and_has_grown_past_its_size_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    reader = JsonLinesReader(path)
    looks = [reader.is_cut]
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": 3')
    looks.append(reader.is_cut)
    assert list(reader) == [{"a": 1}, {"a": 2}]
    looks.append(reader.is_cut)
    assert looks == [False] * 3
    path.write_text('{"a": 1}\n{"a": 4}\n{"a": 5}\n')
    looks.append(reader.is_cut)
    reader.rewind()
    looks.append(reader.is_cut)
    assert list(reader) == [{"a": 1}, {"a": 4}, {"a": 5}]
    path.unlink()
    looks.append(reader.is_cut)
    assert looks[3:] == [True, False, True]


@pytest.mark.usefixtures("short_lines")
def test_a_long_line_that_stays_is_not_taken_for_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": "' + "x" * 50 + '"}\n')
    reader = JsonLinesReader(path)
    assert list(reader) == [{"a": 1}]
    with path.open("a") as more:
        more.write('{"a": 2}\n')
    assert not reader.is_cut
    assert list(reader) == [{"a": 2}]


def test_the_last_complete_record_is_found_without_reading_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert last_record(path) is None
    for content, found in (
        (b"", None),
        (b'{"a": 1}', None),
        (b'{"a": 1}\n', {"a": 1}),
        (b'{"a": 1}\n{"a": 2}\n{"a": 3', {"a": 2}),
        (b'{"a": 0}\n' * TAIL_BYTES + b'{"a": 9}\n', {"a": 9}),
        (b'{"a": "' + b"x" * TAIL_BYTES + b'"}\n', None),
    ):
        path.write_bytes(content)
        assert last_record(path) == found
