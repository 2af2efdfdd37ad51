"""The configuration tree: limits, checks across settings, choices left to the hardware, presets."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.describe import SECTIONS, SETTINGS
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError

PRESETS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def make(**sections: Mapping[str, object]) -> Config:
    return Config.model_validate(sections)


def descriptions() -> Iterator[tuple[str, str | None]]:
    """Section or setting -> its meaning."""
    for section, model in SECTIONS.items():
        yield section, model.__doc__
        for name, field in model.model_fields.items():
            yield f"{section}.{name}", field.description


def test_importing_the_configuration_brings_in_neither_torch_nor_ray() -> None:
    code = (
        "import sys; import keisei_ray.config.schema, keisei_ray.config.resolver; "
        "import keisei_ray.telemetry.progress; "
        "assert not {'torch', 'ray', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


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
    assert expected["tracking.subscribers"] == "a list of str"
    assert expected["cluster.object_store_bytes"] == "int >= 78643200 or null"


def test_defaults_pass_their_own_validation() -> None:
    assert Config.model_validate(Config().model_dump()) == Config()


def test_a_config_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.learner.gamma = 0.5
    with pytest.raises(ValidationError):
        config.learner = config.learner


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
        make(**{section: {key: value}})
    assert caught.value.errors()[0]["loc"][:2] == (section, key)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"learner": {"num_minibatches": 7}},
            ["learner.num_minibatches = 7", "2048 rows", "64 plies x 32 games", "e.g. 8"],
        ),
        (
            {
                "self_play": {"games_per_actor": 3, "rollout_length": 5},
                "schedule": {"rollouts_per_update": 2},
                "learner": {"num_minibatches": 4},
            },
            ["update's 30 rows", "2 rollouts x 5 plies x 3 games", "e.g. 3"],
        ),
        (
            {"schedule": {"mode": "lockstep", "rollouts_per_update": 3}},
            ["schedule.rollouts_per_update = 3", "self_play.num_actors = 2"],
        ),
        (
            {"schedule": {"mode": "lockstep", "max_policy_lag": 2}},
            ["schedule.max_policy_lag = 2", "lockstep"],
        ),
        (
            {"self_play": {"max_plies": 24}},
            ["self_play.random_opening_plies = 24", "self_play.max_plies = 24"],
        ),
        (
            {"checkpoint": {"interval_timesteps": 100, "keep_every_timesteps": 99}},
            ["checkpoint.keep_every_timesteps = 99", "checkpoint.interval_timesteps = 100"],
        ),
        (
            {"cluster": {"address": "10.0.0.1:6379", "num_cpus": 4}},
            ["cluster.num_cpus = 4", "cluster.address = 10.0.0.1:6379"],
        ),
        (
            {
                "schedule": {"rollouts_per_update": 1},
                "learner": {"num_minibatches": 1024, "num_threads": 3},
            },
            ["learner.num_threads = 3", "2 rows of a minibatch"],
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(
    sections: dict[str, dict[str, object]], words: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        make(**sections)
    for word in words:
        assert word in str(caught.value)


def test_rows_that_only_divide_with_all_rollouts_are_accepted_once_their_number_is_known() -> None:
    play = {"games_per_actor": 3, "rollout_length": 5}
    with pytest.raises(ValidationError):
        make(self_play=play, learner={"num_minibatches": 4})
    known = make(
        self_play=play, learner={"num_minibatches": 4}, schedule={"rollouts_per_update": 4}
    )
    assert known.timesteps_per_update == 60


def test_limits_that_join_a_cluster_are_allowed_for_one_started_here() -> None:
    assert make(cluster={"address": "local", "num_cpus": 4}).cluster.num_cpus == 4


def test_derived_sizes() -> None:
    config = make(self_play={"num_actors": 3, "games_per_actor": 6, "rollout_length": 12})
    assert config.timesteps_per_rollout == 72
    with pytest.raises(ConfigError, match=r"schedule\.rollouts_per_update"):
        _ = config.timesteps_per_update
    lockstep = config.model_copy(
        update={"schedule": config.schedule.model_copy(update={"mode": "lockstep"})}
    )
    assert lockstep.timesteps_per_update == 216
    assert (config.effective_max_lag, lockstep.effective_max_lag) == (1, 0)


@pytest.mark.parametrize(
    ("sections", "num_cpus", "num_gpus", "expected"),
    [
        # 2 x 2048 rows reach the least of 4096; two actors need one rollout each two updates.
        ({}, 2, 0, (2, "cpu", "off", 2)),
        # One CUDA device: bf16, and one thread whatever the CPUs.
        ({}, 64, 1, (2, "cuda", "bf16", 1)),
        # 32 actors on 2 CPUs: only two play at a time.
        ({"self_play": {"num_actors": 32}}, 2, 0, (2, "cpu", "off", 2)),
        # 32 actors on 64 CPUs, lag 1: half of them per update; threads stop at 16.
        ({"self_play": {"num_actors": 32}}, 64, 0, (32, "cpu", "off", 16)),
        # No lag: a whole round per update.
        (
            {"self_play": {"num_actors": 31}, "schedule": {"max_policy_lag": 0}},
            64,
            0,
            (31, "cpu", "off", 16),
        ),
        # Lockstep: exactly one rollout of each actor, however small.
        (
            {
                "self_play": {"num_actors": 3, "games_per_actor": 2, "rollout_length": 2},
                "schedule": {"mode": "lockstep"},
                "learner": {"num_minibatches": 6},
            },
            16,
            0,
            (3, "cpu", "off", 2),
        ),
        # What was chosen stays.
        (
            {
                "schedule": {"rollouts_per_update": 5},
                "learner": {"device": "cpu", "amp": "bf16", "num_threads": 3},
            },
            8,
            4,
            (5, "cpu", "bf16", 3),
        ),
        ({}, 0, 0, (2, "cpu", "off", 1)),
    ],
)
def test_what_is_left_to_the_hardware(
    sections: dict[str, dict[str, object]],
    num_cpus: int,
    num_gpus: int,
    expected: tuple[int, str, str, int],
) -> None:
    config = resolve_auto(make(**sections), num_cpus, num_gpus)
    learner = config.learner
    assert (
        config.effective_rollouts_per_update,
        learner.device,
        learner.amp,
        learner.num_threads,
    ) == expected


def test_a_resolved_lockstep_config_can_be_resumed_with_other_actors() -> None:
    resolved = resolve_auto(make(schedule={"mode": "lockstep"}), 4, 0)
    values = resolved.model_dump()
    values["self_play"]["num_actors"] = 5
    assert Config.model_validate(values).effective_rollouts_per_update == 5


@settings(deadline=None)
@given(
    num_actors=st.integers(1, 300),
    games=st.integers(1, 40),
    length=st.integers(1, 40),
    parts=st.integers(1, 40),
    lag=st.integers(0, 4),
    num_cpus=st.integers(0, 300),
    num_gpus=st.integers(0, 2),
)
def test_resolving_twice_changes_nothing_and_leaves_nothing_open(
    num_actors: int,
    games: int,
    length: int,
    parts: int,
    lag: int,
    num_cpus: int,
    num_gpus: int,
) -> None:
    config = make(
        self_play={"num_actors": num_actors, "games_per_actor": games, "rollout_length": length},
        schedule={"max_policy_lag": lag},
        learner={"num_minibatches": parts if games * length % parts == 0 else 1},
    )
    once = resolve_auto(config, num_cpus, num_gpus)
    assert resolve_auto(once, num_cpus, num_gpus) == once
    assert resolve_auto(once, 999, num_gpus) == once
    assert once.timesteps_per_update >= 4096
    assert once.timesteps_per_update % once.learner.num_minibatches == 0
    assert "auto" not in (once.learner.device, once.learner.amp)
    assert once.learner.num_threads is not None


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"learner\.device = 'cuda'"):
        resolve_auto(make(learner={"device": "cuda"}), 8, 0)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads_and_resolves_on_its_hardware(path: Path) -> None:
    config = resolve_config(str(path), {}, [], {})
    assert config != Config()
    resolved = resolve_auto(config, num_cpus=16, num_gpus=1)
    assert resolved.timesteps_per_update <= config.run.total_timesteps
    for heading in ("# Purpose:", "# Hardware:", "# Time:", "# Result:"):
        assert heading in path.read_text(encoding="ascii")


def test_the_presets_are_those_that_were_promised() -> None:
    assert {path.stem for path in PRESETS} >= {
        "debug",
        "laptop",
        "workstation",
        "gpu",
        "cluster",
    }
