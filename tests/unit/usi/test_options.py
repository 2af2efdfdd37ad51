"""The engine's options: how they are listed and set."""

import pytest

from keisei_ray.usi.options import TABLE, OptionError, Options, declarations, with_option


def test_options_are_listed_as_the_protocol_wants_them() -> None:
    lines = declarations(Options(hash_mb=64, checkpoint="/a b"))
    assert "option name Checkpoint type string default /a b" in lines
    assert "option name USI_Hash type spin default 64 min 16 max 1048576" in lines
    assert "option name USI_Ponder type check default false" in lines
    assert "option name Checkpoint type string default <empty>" in declarations(Options())
    assert len(lines) == len(TABLE)


def test_defaults_are_within_limits() -> None:
    options = Options()
    for option in TABLE:
        value = getattr(options, option.field)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert with_option(options, option.name, text) == options


@pytest.mark.parametrize(
    ("name", "value", "field", "found"),
    [
        ("Simulations", "800", "simulations", 800),
        ("simulations", " 800", "simulations", 800),
        ("USI_Ponder", "true", "ponder", True),
        ("Checkpoint", "runs/a b", "checkpoint", "runs/a b"),
        ("Checkpoint", "<empty>", "checkpoint", ""),
    ],
)
def test_an_option_is_set(name: str, value: str, field: str, found: object) -> None:
    assert getattr(with_option(Options(checkpoint="x"), name, value), field) == found


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("Simulation", "3", "unknown option 'Simulation': expected one of Checkpoint"),
        ("Simulations", "-1", "option Simulations = '-1': expected a whole number from 0 to"),
        ("Simulations", "many", "option Simulations = 'many'"),
        ("Simulations", "", "option Simulations = ''"),
        ("Simulations", "9" * 5000, "option Simulations = '999"),
        ("MultiPV", "0", "from 1 to 593"),
        ("MultiPV", "5" + " " * 19 + "x", "from 1 to 593"),
        ("MultiPV", "1_0", "option MultiPV = '1_0'"),
        ("MultiPV", "٣", "option MultiPV = "),
        ("USI_Ponder", "yes", "expected true or false"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(name: str, value: str, told: str) -> None:
    with pytest.raises(OptionError) as refused:
        with_option(Options(), name, value)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 400
