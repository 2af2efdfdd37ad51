"""Every route gives a setting the same value; a wrong key or value is refused by name."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.describe import SETTINGS
from keisei_ray.config.resolver import load_config_json, resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from tests.helpers.setting_values import NOT_DEFAULT, nested

# Flags cannot say null: for them None means that the flag was not given.
FLAGGABLE = {key: value for key, value in NOT_DEFAULT.items() if value is not None}
ROUTES = ("file", "environ", "overrides", "flags", "sweep")


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def as_env(key: str) -> str:
    return "KEISEI_" + key.replace(".", "__").upper()


def give(values: Mapping[str, Any], route: str, folder: Path) -> Config:
    """Resolves `values`, all given by one route."""
    if route == "file":
        path = folder / "given.yaml"
        path.write_text(yaml.safe_dump(nested(values)), encoding="utf-8")
        return resolve_config(str(path), {}, [], {})
    if route == "environ":
        environ = {as_env(key): as_text(value) for key, value in values.items()}
        return resolve_config(None, {"PATH": "/bin"} | environ, [], {})
    if route == "overrides":
        return resolve_config(None, {}, [f"{k}={as_text(v)}" for k, v in values.items()], {})
    if route == "flags":
        return resolve_config(None, {}, [], values)
    return resolve_config(None, {}, [], {}, values)


def error_of(values: Mapping[str, Any], route: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        give(values, route, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(folder: Path, text: str) -> str:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def file_error(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_config(path, {}, [], {})
    message = str(caught.value)
    assert path in message
    assert "\n" not in message
    return message


NEED_OTHERS = {"checkpoint.keep_best", "learner.kl_start_coef"}
"""Settings that are refused without another one."""


def test_the_values_tried_are_every_setting_and_none_is_its_default() -> None:
    defaults = {setting.key: setting.default for setting in SETTINGS.values()}
    assert defaults.keys() == NOT_DEFAULT.keys()
    assert [key for key in defaults if defaults[key] == NOT_DEFAULT[key]] == []


@pytest.mark.parametrize("route", ROUTES)
def test_every_setting_arrives_by_every_route_byte_for_byte(route: str, tmp_path: Path) -> None:
    values = FLAGGABLE if route == "flags" else NOT_DEFAULT
    config = give(values, route, tmp_path)
    # The truth: pydantic on the plain nested values, past the resolver.
    expected = Config.model_validate(nested(values))
    assert config.model_dump_json(indent=2) == expected.model_dump_json(indent=2)
    dump = config.model_dump(mode="json")
    for key, value in values.items():
        section, _, name = key.partition(".")
        assert dump[section][name] == value, key


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("key", sorted(FLAGGABLE.keys() - NEED_OTHERS))
def test_one_setting_changes_that_setting_alone(key: str, route: str, tmp_path: Path) -> None:
    # The one setting, besides those left out, that does not fit the other defaults.
    value = 400_000 if key == "checkpoint.keep_every_timesteps" else FLAGGABLE[key]
    section, _, name = key.partition(".")
    expected = Config().model_dump(mode="json")
    expected[section][name] = value
    assert give({key: value}, route, tmp_path).model_dump(mode="json") == expected


def test_null_by_flag_means_not_given() -> None:
    config = resolve_config(None, {}, ["learner.gamma=0.5"], {"learner.gamma": None})
    assert config.learner.gamma == 0.5


def test_null_by_sweep_is_a_value() -> None:
    assert resolve_config(None, {}, [], {}, {"learner.target_kl": None}).learner.target_kl is None


def test_a_sweep_may_be_nested_or_dotted() -> None:
    dotted = resolve_config(None, {}, [], {}, {"learner.gamma": 0.5, "run.seed": 2})
    assert dotted == resolve_config(
        None, {}, [], {}, {"learner": {"gamma": 0.5}, "run": {"seed": 2}}
    )


def test_later_routes_win(tmp_path: Path) -> None:
    key = "self_play.num_actors"
    path = write(tmp_path, "self_play: {num_actors: 11}")
    environ = {as_env(key): "12"}
    sweep = {key: 13}
    overrides = [f"{key}=14"]
    flags = {key: 15}

    def actors(*arguments: Any) -> int | str:
        return resolve_config(*arguments).self_play.num_actors

    assert actors(None, {}, [], {}) == 2
    assert actors(path, {}, [], {}) == 11
    assert actors(path, environ, [], {}) == 12
    assert actors(path, environ, [], {}, sweep) == 13
    assert actors(path, environ, overrides, {}, sweep) == 14
    assert actors(path, environ, overrides, flags, sweep) == 15
    assert actors(None, {}, [f"{key}=20", f"{key}=21"], {}) == 21


def test_validation_waits_until_all_is_merged(tmp_path: Path) -> None:
    # Neither 7 minibatches nor 7 games fit alone; together they do.
    path = write(tmp_path, "learner: {num_minibatches: 7}")
    config = resolve_config(path, {}, ["self_play.games_per_actor=7"], {})
    assert (config.learner.num_minibatches, config.self_play.games_per_actor) == (7, 7)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("self_play.num_actor", "self_play.num_actors"),
        ("lerner.gamma", "learner.gamma"),
        ("learner.learningrate", "learner.learning_rate"),
        ("checkpoint.keep_lst", "checkpoint.keep_last"),
    ],
)
def test_an_unknown_key_is_named_with_its_source_and_the_nearest_known(
    key: str, nearest: str, route: str, tmp_path: Path
) -> None:
    message = error_of({"run.seed": 3, key: 3}, route, tmp_path)
    source = {
        "file": str(tmp_path / "given.yaml"),
        "environ": f"environment variable {as_env(key)}",
        "overrides": "--set",
        "flags": "--" + key.partition(".")[2].replace("_", "-"),
        "sweep": "sweep",
    }[route]
    suggestion = as_env(nearest) if route == "environ" else nearest
    assert message == f"{source}: unknown key '{key}'. Did you mean '{suggestion}'?"


def test_a_key_without_its_section_is_found_in_the_sections(tmp_path: Path) -> None:
    assert "Did you mean 'learner.gamma'?" in error_of({"gama": 1}, "overrides", tmp_path)
    assert "Did you mean 'learner.gamma'?" in file_error(write(tmp_path, "gamma: 0.9"))
    # As a whole path, model.depth would look more like it.
    assert "Did you mean 'schedule.mode'?" in error_of({"mode": 1}, "overrides", tmp_path)


@pytest.mark.parametrize("text", ["lerner: {}", "lerner:", "lerner: 3"])
def test_an_unknown_section_is_refused_even_when_it_says_nothing(text: str, tmp_path: Path) -> None:
    assert "unknown key 'lerner'" in file_error(write(tmp_path, text))


def test_an_environment_variable_with_one_underscore_is_not_ignored() -> None:
    with pytest.raises(ConfigError, match="KEISEI_LEARNER__GAMMA"):
        resolve_config(None, {"KEISEI_LEARNER_GAMMA": "0.5"}, [], {})


def test_other_environment_variables_are_left_alone() -> None:
    environ = {"KEISEIX": "1", "RAY_ADDRESS": "auto", "keisei_run__seed": "3"}
    assert resolve_config(None, environ, [], {}) == Config()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("self_play.num_actors", True, ["True (bool)", "int > 0"]),
        ("learner.gamma", False, ["False (bool)", "float >= 0 and <= 1"]),
        ("self_play.num_actors", "many", ["'many' (str)", "int > 0"]),
        ("self_play.num_actors", 2.5, ["2.5 (float)", "int > 0"]),
        ("self_play.num_actors", -1, ["-1 (int)", "int > 0"]),
        ("learner.learning_rate", "fast", ["'fast' (str)", "float > 0"]),
        ("learner.amp", "bf32", ["'bf32' (str)", "one of auto, off, bf16, fp16"]),
        ("learner.normalize_advantages", "maybe", ["'maybe' (str)", "bool"]),
        ("learner.num_threads", [2], ["[2] (list)", "int > 0 or null"]),
        ("tracking.subscribers", "a:b", ["'a:b' (str)", "a list of str"]),
        ("tracking.subscribers", [3], ["[3] (list)", "a list of str"]),
        ("model.depth", {"a": 1}, ["{'a': 1} (dict)", "int > 0"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_type_and_what_was_expected(
    key: str, value: object, words: list[str], route: str, tmp_path: Path
) -> None:
    message = error_of({key: value}, route, tmp_path)
    assert f": {key} = " in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("key", ["self_play.num_actors", "learner.gamma", "model.activation"])
def test_null_is_refused_where_it_is_no_value(key: str, tmp_path: Path) -> None:
    for route in ("file", "overrides", "environ", "sweep"):
        assert f"{key} = None" in error_of({key: None}, route, tmp_path)


def test_a_flag_is_named_as_it_was_typed_and_counts_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(None, {}, [], {"self_play.num_actors": 0})
    assert str(caught.value) == (
        "--num-actors: self_play.num_actors = 0 (int), expected int > 0 or auto."
    )


def test_several_errors_give_the_first_and_their_number(tmp_path: Path) -> None:
    values = {"run.seed": -1, "learner.gamma": 3, "model.depth": 0}
    message = error_of(values, "overrides", tmp_path)
    assert "run.seed = -1" in message
    assert message.endswith("(and 2 more)")


def test_a_check_across_settings_says_where_each_came_from(tmp_path: Path) -> None:
    path = write(tmp_path, "learner: {num_minibatches: 7}")
    with pytest.raises(ConfigError) as caught:
        resolve_config(path, {}, ["schedule.max_policy_lag=1"], {})
    assert "learner.num_minibatches = 7 does not divide" in str(caught.value)
    assert f"learner.num_minibatches from {path}" in str(caught.value)
    assert "max_policy_lag" not in str(caught.value)


def test_part_of_a_section_keeps_the_other_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "learner:\n  gamma: 0.9\nself_play:\n")
    config = resolve_config(path, {}, ["learner.gae_lambda=0.8"], {})
    expected = Config().learner.model_copy(update={"gamma": 0.9, "gae_lambda": 0.8})
    assert config == Config(learner=expected)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert "No such file" in file_error(str(tmp_path / "nowhere.yaml"))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "cannot read" in file_error(str(tmp_path))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "null", "---\n"])
def test_an_empty_file_is_refused(text: str, tmp_path: Path) -> None:
    assert "empty, expected" in file_error(write(tmp_path, text))


@pytest.mark.parametrize("text", ["- learner", "learner", "3", "[run, learner]"])
def test_a_file_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    assert "expected a mapping" in file_error(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "learner: {gamma: 0.9",
        "learner:\n\tgamma: 1",
        "a: b: c",
        "learner: !!python/object/apply:os.system ['true']",
        "learner: {gamma: !!float high}",
        "learner: {gamma: !!bool high}",
        "run: {seed: !!timestamp high}",
        "? [learner]\n: 3",
        "a: 1\n---\nb: 2",
        "[" * 5000,
        "run: {seed: " + "9" * 5000 + "}",
        "\x00",
    ],
)
def test_a_file_that_is_no_yaml_is_refused(text: str, tmp_path: Path) -> None:
    assert "not valid YAML" in file_error(write(tmp_path, text))


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00run")
    assert "UTF-8" in file_error(str(path))


@pytest.mark.parametrize(
    "text",
    ["run: {seed: 1}\nrun: {seed: 2}", "run: {seed: 1, seed: 2}", "run: {seed: 1}\nrun.seed: 2"],
)
def test_a_key_given_twice_in_a_file_is_refused(text: str, tmp_path: Path) -> None:
    assert "given twice" in file_error(write(tmp_path, text))


def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    assert "learner is a section" in file_error(write(tmp_path, "learner: 3"))
    assert "learner is a section" in error_of({"learner": "{}"}, "overrides", tmp_path)


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set section\.key=value"):
        resolve_config(None, {}, ["learner.gamma"], {})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("learner.amp", "off", "off"),
        ("learner.learning_rate", "3e-4", 3e-4),
        ("learner.learning_rate", ".5", 0.5),
        ("run.total_timesteps", "1e6", 1_000_000),
        ("run.total_timesteps", "10_000", 10_000),
        ("run.seed", "010", 10),
        ("run.run_dir", "2026-01-02", "2026-01-02"),
        ("run.run_dir", "007", "007"),
        ("run.run_dir", "true", "true"),
        ("run.run_dir", "a: b: c", "a: b: c"),
        ("run.run_dir", "null", None),
        ("run.run_dir", "", None),
        ("run.run_dir", "a # b", "a # b"),
        ("run.resume", "runs/a=b", "runs/a=b"),
        ("cluster.address", "local", "local"),
        ("cluster.dashboard", "yes", True),
        ("tracking.subscribers", "[a.b:c, d:e]", ("a.b:c", "d:e")),
    ],
)
def test_text_reads_as_it_looks(key: str, text: str, value: object) -> None:
    section, _, name = key.partition(".")
    for config in (
        resolve_config(None, {}, [f"{key}={text}"], {}),
        resolve_config(None, {as_env(key): text}, [], {}),
    ):
        assert getattr(getattr(config, section), name) == value


def test_aliases_that_stand_for_billions_of_values_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(['*a' + str(n - 1)] * 10)}]" for n in range(1, 10)]
    assert "more than 100,000 values" in file_error(write(tmp_path, "\n".join(lines)))


def test_an_alias_of_a_collection_inside_it_is_refused(tmp_path: Path) -> None:
    assert "collection that it is in" in file_error(write(tmp_path, "model: &a {width: *a}"))


def test_merge_keys_of_yaml_1_1_merge_nothing(tmp_path: Path) -> None:
    text = "a0: &a0 {x: 1}\nmodel: {!!merge <<: *a0}"
    assert "not valid YAML" in file_error(write(tmp_path, text))


def test_words_that_yaml_1_1_takes_for_bools_stay_words_in_a_file(tmp_path: Path) -> None:
    assert resolve_config(write(tmp_path, "learner: {amp: off}"), {}, [], {}).learner.amp == "off"


def test_the_dump_of_a_config_is_a_file_for_the_next_run(tmp_path: Path) -> None:
    config = resolve_config(None, {}, [], {}, NOT_DEFAULT)
    for name in ("config.json", "config.yaml"):
        path = tmp_path / name
        path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
        assert resolve_config(str(path), {}, [], {}) == config


def test_a_json_file_is_read_as_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("run: {seed: 1}", encoding="utf-8")
    assert "not valid JSON" in file_error(str(path))


configs = st.builds(
    lambda seed, run_dir, rate, kl, actors, mode, subscribers: Config.model_validate(
        {
            "run": {"seed": seed, "run_dir": run_dir},
            "learner": {"learning_rate": rate, "target_kl": kl},
            "self_play": {"num_actors": actors},
            "schedule": {"mode": mode},
            "tracking": {"subscribers": subscribers},
        }
    ),
    st.integers(0, 2**63 - 1),
    st.none() | st.text(st.characters(codec="utf-8")),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.none() | st.floats(min_value=1e-300, max_value=1e300),
    st.integers(1, 10**6),
    st.sampled_from(["overlap", "lockstep"]),
    st.lists(st.text(st.characters(codec="utf-8")), max_size=3, unique=True),
)


@settings(deadline=None)
@given(configs)
def test_load_is_the_inverse_of_dump(config: Config) -> None:
    text = config.model_dump_json(indent=2)
    loaded = load_config_json(text, "config.json")
    assert loaded == config
    assert loaded.model_dump_json(indent=2) == text


def test_a_damaged_dump_is_refused_by_name() -> None:
    text = Config().model_dump_json(indent=2)
    with pytest.raises(ConfigError, match=r"^run/config\.json"):
        load_config_json(text[:-20], "run/config.json")
    with pytest.raises(ConfigError, match=r"unknown key 'learner\.gama'.*learner\.gamma"):
        load_config_json(text.replace('"gamma"', '"gama"'), "config.json")


@settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from(list(SETTINGS)))
def test_any_text_is_a_value_or_a_config_error(text: str, key: str) -> None:
    routes: list[tuple[dict[str, str], list[str]]] = [
        ({as_env(key): text}, []),
        ({}, [f"{key}={text}"]),
        ({}, [text]),
    ]
    for environ, overrides in routes:
        message = ""
        try:
            resolve_config(None, environ, overrides, {})
        except ConfigError as error:
            message = str(error)
        assert len(message.splitlines()) <= 1


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "evaluation.opponents",
            ["random", "rnadom"],
            "unknown player 'rnadom'. Did you mean 'random'? Expected",
        ),
        ("evaluation.opponents", ["usi:"], "player 'usi:': no command. Expected usi:COMMAND"),
        ("evaluation.opponents", [], "names an opponent twice"),
        ("evaluation.opponents", ["greedy", "greedy"], "names an opponent twice"),
        ("evaluation.num_games", 3, "expected int >= 2 and a multiple of 2"),
        ("pool.members", ["grady"], "unknown player 'grady'. Did you mean 'greedy'? Expected"),
    ],
)
def test_a_value_that_a_setting_refuses_is_named_with_what_it_should_be(
    key: str, value: object, says: str, tmp_path: Path
) -> None:
    message = error_of({key: value}, "overrides", tmp_path)
    assert key in message
    assert says in message


@pytest.mark.parametrize("name", ["some.yaml", "some.json"])
def test_half_a_surrogate_pair_in_a_file_of_settings_is_refused(name: str, tmp_path: Path) -> None:
    """No file can hold it: the run's own config.json could not be written."""
    path = tmp_path / name
    path.write_text(r'{"tracking": {"subscribers": [{"a.b:c": {"x": "\ud800"}}]}}')
    with pytest.raises(ConfigError, match=r"not valid .*: '\\ud800' is not a character"):
        resolve_config(str(path), {}, [], {})


@pytest.mark.parametrize(
    ("tagged", "kind"),
    [("!!binary xw==", "bytes"), ("!!set {a}", "set"), ("!!timestamp 2026-01-01", "date"),
     ("!!pairs [a: 1]", "tuple")],
)  # fmt: skip
def test_a_tag_that_makes_no_plain_value_is_refused(tagged: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(f'tracking: {{subscribers: [{{"a.b:c": {{x: {tagged}}}}}]}}')
    with pytest.raises(ConfigError, match=f"not valid YAML: a value of the type {kind}, expected"):
        resolve_config(str(path), {}, [], {})


def test_a_long_tag_is_not_quoted_whole(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(f"run: {{seed: !!int{'9' * 5000} 1}}")
    with pytest.raises(
        ConfigError, match="could not determine a constructor for the tag"
    ) as caught:
        resolve_config(str(path), {}, [], {})
    assert len(str(caught.value)) < 500


def test_half_a_surrogate_pair_on_the_command_line_is_refused() -> None:
    given = r'tracking.subscribers=[{"a.b:c": {"x": "\udfff"}}]'
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        resolve_config(None, {}, [given], {})


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(r'{"run": {"run_dir": "\ud83d\ude00"}}')
    assert resolve_config(str(path), {}, [], {}).run.run_dir == "\U0001f600"


@pytest.mark.parametrize("digits", ["100000000000000000000", "-9223372036854775809"])
def test_an_integer_that_a_run_could_not_read_back_is_refused(digits: str) -> None:
    with pytest.raises(ConfigError, match=r"--set: run\.total_timesteps = .*: beyond 64 bits"):
        resolve_config(None, {}, [f"run.total_timesteps={digits}"], {})


def test_bytes_that_are_not_text_are_refused_wherever_they_are_given() -> None:
    name = os.fsdecode(b"kifu-\x83")
    for route in (
        {"flags": {"run.run_dir": name}},
        {"flags": {"pretrain.records": [name]}},
        {"environ": {"KEISEI_RUN__RUN_DIR": name}},
    ):
        with pytest.raises(ConfigError, match="not text in UTF-8") as refused:
            resolve_config(None, **{"environ": {}, "overrides": [], "flags": {}} | route)
        assert "\n" not in str(refused.value)


def test_the_place_of_a_saved_run_is_not_used_unless_it_is_a_uri(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for place, used in (("runs/a", None), ("s3://bucket/a", "s3://bucket/a")):
        file.write_text(json.dumps({"run": {"run_dir": place}}))
        assert resolve_config(str(file), {}, [], {}, is_saved=True).run.run_dir == used
        assert resolve_config(str(file), {}, [], {}).run.run_dir == place
        other = resolve_config(str(file), {}, ["run.run_dir=runs/b"], {}, is_saved=True)
        assert other.run.run_dir == "runs/b"
