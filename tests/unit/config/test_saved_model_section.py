"""Model sections that were saved before a setting existed."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from keisei_ray.config.resolver import load_config_json, resolve_config
from keisei_ray.config.saved_model_section import read_model_section, section_identity
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig


def without_origins(section: ModelConfig) -> str:
    """JSON of a section as the program saved it before there was `model.origins`."""
    return json.dumps(
        {k: v for k, v in json.loads(section.model_dump_json()).items() if k != "origins"}
    )


def test_a_network_saved_without_origins_has_none() -> None:
    old = ModelConfig(depth=3, attackers=True, origins=False)
    assert read_model_section(without_origins(old)) == old


@pytest.mark.parametrize("origins", [True, False])
def test_a_section_saved_today_is_read_as_it_is(origins: bool) -> None:
    section = ModelConfig(depth=3, origins=origins)
    assert read_model_section(section.model_dump_json()) == section


def test_the_settings_of_a_run_from_before_give_its_network(tmp_path: Path) -> None:
    before = Config()
    text = before.model_dump_json()
    tree = json.loads(text)
    del tree["model"]["origins"]
    old = json.dumps(tree)
    (tmp_path / "config.json").write_text(old)
    assert not load_config_json(old, "config.json").model.origins
    assert not resolve_config(str(tmp_path / "config.json"), {}, [], {}).model.origins
    assert load_config_json(text, "config.json") == before


def test_a_short_section_written_by_hand_gets_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"model": {"depth": 3}}')
    assert resolve_config(str(tmp_path / "mine.json"), {}, [], {}).model == ModelConfig(depth=3)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"depth": -1}', '{"deep": 3}'])
def test_what_is_no_model_section_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        read_model_section(text)


def test_the_identity_of_a_network_without_origins_is_that_of_before() -> None:
    old = ModelConfig(origins=False)
    assert section_identity(old) == without_origins(old).replace(", ", ",").replace(": ", ":")
    assert section_identity(old) != section_identity(ModelConfig())
