"""Text from files and other programs shows what it holds and does nothing else."""

import pytest

from keisei_ray.telemetry.visible_text import shortened, visible


@pytest.mark.parametrize("text", ["", "v12 [bold] a/b", "\u5c06\u68cb \u2584", "a\\x1bb"])
def test_what_prints_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x9b2J\r\x08\x7f", "\\x9b2J\\r\\x08\\x7f"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\u2028\u200b", "\\u2028\\u200b"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("ab\x1bcd" * 1000, 4) == "ab\\x1bc... (5000 characters)"
