"""JSON of unknown origin: what cannot be calculated with is refused, by one kind of error."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.config.json_text import MAX_INTEGER, parse_json, read_json


@pytest.mark.parametrize(
    "value", [{"a": [1, -2.5, None, "x"]}, MAX_INTEGER, -MAX_INTEGER, "\u3042"]
)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.slow
@given(JSON_VALUES, st.booleans())
def test_both_parsers_read_the_same(value: object, ensure_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(text)
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="surrogates"):
            parse_json(text)
        return
    assert repr(parse_json(text)) == repr(expected)  # A NaN is not equal to itself.


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b'"\\ud800"', b" 1 ", b"-0", b"1e999", b"NaN"])
def test_odd_json_is_read_as_json_reads_it(text: bytes) -> None:
    assert repr(parse_json(text)) == repr(json.loads(text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "too deeply"),
        (str(MAX_INTEGER + 1), "beyond 64 bits"),
        (str(-MAX_INTEGER - 1), "beyond 64 bits"),
        (b'{"a": 9223372036854775808}', "beyond 64 bits"),
        (b"[-9999999999999999999]", "beyond 64 bits"),
        ("[1" + "0" * 5_000 + "]", "beyond 64 bits"),
        (b"\xff", "utf-8"),
    ],
)
def test_what_is_no_usable_json_is_a_value_error(text: str | bytes, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_json(text)


def test_a_file_beyond_the_limit_is_not_parsed(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a": 1}')
    assert read_json(file, 8) == {"a": 1}
    with pytest.raises(ValueError, match="longer than 7 bytes"):
        read_json(file, 7)
