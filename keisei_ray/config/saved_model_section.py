"""Model sections that the program saved, also before it had all of today's settings.

A network that was saved without a setting is what that setting made it later, which need not be
what a new network gets by default.
"""

from collections.abc import Mapping
from typing import Any, Final

from keisei_ray.config.sections import ModelConfig

_ALWAYS_SAVED: Final = "attackers"
"""A setting of every saved model section; people who write one by hand may leave it out."""
_BEFORE: Final[Mapping[str, Any]] = {"origins": False}
"""Setting that came later -> what a section saved without it means."""


def completed_section(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a model section with the settings that the program which saved it did not have."""
    return {**_BEFORE, **section} if _ALWAYS_SAVED in section else section


def section_identity(section: ModelConfig) -> str:
    """Returns a text that is equal exactly if two sections are.

    It is what `ModelConfig.model_dump_json` gave before there were settings that make no difference
    to this network.
    """
    without = {key for key, value in _BEFORE.items() if getattr(section, key) == value}
    return section.model_dump_json(exclude=without)


def read_model_section(text: str) -> ModelConfig:
    """Reads a model section that `ModelConfig.model_dump_json` wrote.

    Raises:
        ValidationError: not a model section.
    """
    saved = ModelConfig.model_validate_json(text).model_dump(exclude_unset=True)
    return ModelConfig.model_validate(completed_section(saved))
