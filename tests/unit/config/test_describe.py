"""`run.py config --describe`: every setting can be found from the command line."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray.cli import main
from keisei_ray.config.describe import SECTIONS, SETTINGS
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config

ROOT = Path(__file__).parents[3]


def described(capsys: pytest.CaptureFixture[str], *wanted: str) -> str:
    assert main(["config", "--describe", *wanted]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def keys_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line in SETTINGS]


def test_one_setting_shows_meaning_default_limits_and_environment_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert described(capsys, "learner.gamma") == (
        "learner.gamma\n"
        f"    {SETTINGS['learner.gamma'].description}\n"
        "    Default      0.997\n"
        "    Expected     float >= 0 and <= 1\n"
        "    Environment  KEISEI_LEARNER__GAMMA\n"
    )


def test_all_settings_are_described_in_the_order_of_the_tree(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = described(capsys)
    assert keys_in(text) == list(SETTINGS)
    words = " ".join(text.split())
    for setting in SETTINGS.values():
        assert f"{setting.key} {setting.description} Default {setting.default_text} " in words
        assert f"Expected {setting.expected} Environment {setting.env}" in words


@pytest.mark.parametrize("section", Config.model_fields)
def test_a_section_shows_its_settings_only(
    section: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = described(capsys, section)
    assert text.startswith(f"[{section}] ")
    assert keys_in(text) == [key for key in SETTINGS if key.startswith(f"{section}.")]


def test_a_key_without_its_section_shows_each_setting_of_that_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert keys_in(described(capsys, "max_plies")) == [
        "self_play.max_plies",
        "pretrain.max_plies",
        "evaluation.max_plies",
    ]


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        ("lerner", "learner"),
        ("learner.gama", "learner.gamma"),
        ("gama", "learner.gamma"),
        ("selfplay", "self_play"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_in_one_line(
    wanted: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--describe", wanted]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert f"unknown section or setting '{wanted}'. Did you mean '{nearest}'?" in line


@pytest.mark.parametrize(
    "beside", [["--set", "run.seed=3"], ["--config", "x.yaml"], ["--sweep", "x.json"]]
)
def test_values_given_beside_a_description_are_refused_and_not_ignored(
    beside: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--describe", "run", *beside]) == 2
    assert "leave --config, --set and --sweep out" in capsys.readouterr().err


def test_a_pipe_gets_plain_lines_of_at_most_80_columns() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "config", "--describe"],
        capture_output=True, check=True,
    )  # fmt: skip
    text = done.stdout.decode("ascii")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(keys_in(text)) == len(SETTINGS)


def test_a_default_reads_as_it_would_be_typed() -> None:
    typed = [f"{setting.key}={setting.default_text}" for setting in SETTINGS.values()]
    assert resolve_config(None, {}, typed, {}) == Config()
    assert SETTINGS["checkpoint.interval_timesteps"].default_text == "200_000"
    assert (
        SETTINGS["evaluation.opponents"].default_text
        == '[random, "greedy?random=0.5", greedy, greedy2, snapshots]'
    )


def descriptions() -> Iterator[tuple[str, str | None]]:
    """Section or setting -> its meaning."""
    for section, model in SECTIONS.items():
        yield section, model.__doc__
        for name, field in model.model_fields.items():
            yield f"{section}.{name}", field.description


def test_every_field_is_described() -> None:
    undescribed = [key for key, text in descriptions() if not (text and text.endswith("."))]
    assert undescribed == []
    assert len(list(descriptions())) == len(SECTIONS) + len(SETTINGS)


def test_the_list_of_settings_is_every_leaf_of_the_tree_with_its_default() -> None:
    dump = Config().model_dump()
    expected = {f"{section}.{key}": v for section, keys in dump.items() for key, v in keys.items()}
    assert {setting.key: setting.default for setting in SETTINGS.values()} == expected
    assert len({setting.env for setting in SETTINGS.values()}) == len(expected)


def test_settings_name_type_and_limits() -> None:
    expected = {setting.key: setting.expected for setting in SETTINGS.values()}
    assert expected["learner.gamma"] == "float >= 0 and <= 1"
    assert expected["learner.target_kl"] == "float > 0 or null"
    assert expected["model.activation"] == "one of relu, silu"
    assert expected["tracking.subscribers"] == "a list of str or {str: {str: value}}"
    assert expected["cluster.object_store_bytes"] == "int >= 78643200 or null"
