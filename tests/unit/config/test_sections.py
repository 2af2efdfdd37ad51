"""Types and limits of single settings."""

import pytest
from pydantic import ValidationError

from tests.helpers.setting_values import make_config


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("learner", "learning_rate", 0.0),
        ("learner", "gamma", 1.001),
        ("learner", "lr_final_fraction", -0.1),
        ("learner", "target_kl", 0),
        ("learner", "ent_coef", float("nan")),
        ("learner", "learning_rate", float("inf")),
        ("learner", "num_epochs", True),
        ("learner", "vf_coef", False),
        ("learner", "num_epochs", 1.5),
        ("learner", "normalize_advantages", 2),
        ("learner", "amp", "bfloat16"),
        ("self_play", "num_actors", 0),
        ("self_play", "num_actors", -1),
        ("self_play", "num_actors", "all"),
        ("self_play", "num_actors", True),
        ("self_play", "num_actors", 1.5),
        ("self_play", "max_plies", 1),
        ("self_play", "max_plies", 4097),
        ("self_play", "random_opening_plies", -1),
        ("run", "seed", -1),
        ("run", "run_dir", True),
        ("model", "depth", "deep"),
        ("wire", "zstd_level", 0),
        ("cluster", "dashboard_port", 65536),
        ("tracking", "subscribers", "a:b"),
        ("run", "unknown", 1),
    ],
)
def test_a_value_out_of_type_or_limits_is_refused(section: str, key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        make_config(**{section: {key: value}})
    assert caught.value.errors()[0]["loc"][:2] == (section, key)
