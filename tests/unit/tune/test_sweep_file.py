"""Sweep files: what is refused before anything starts, and that the shipped ones are not."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import tune

from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError, UserError
from keisei_ray.tracking.curves import curve_points
from keisei_ray.tune.command import TuneOptions, run
from keisei_ray.tune.results import config_yaml
from keisei_ray.tune.space import Dimension, dimensions, dotted_settings, samples, trial_config
from keisei_ray.tune.sweep import check_sweep
from keisei_ray.tune.sweep_file import Sweep, load_sweep_file
from keisei_ray.tune.trial import bundles
from keisei_ray.tune.trial_metrics import metric_names
from tests.helpers.run_events import evaluated, updated
from tests.helpers.setting_values import NOT_DEFAULT, nested

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(p for p in (ROOT / "configs/tune").glob("*.yaml") if p.stem != "wandb-sweep")
SMALL: dict[str, Any] = {
    "metric": {"name": "policy_loss", "mode": "min"},
    "settings": {"run": {"total_timesteps": 1000}},
    "space": {"learner.learning_rate": {"loguniform": [1e-4, 1e-2]}},
}


def sweep_of(folder: Path, *overrides: str, **parts: Any) -> Sweep:
    """The sweep of a file that differs from `SMALL` in some parts."""
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL | parts), encoding="utf-8")
    return load_sweep_file(str(path), {}, overrides, {})


def refusal(folder: Path, *overrides: str, **parts: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_sweep(sweep_of(folder, *overrides, **parts))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid_and_says_what_it_needs(path: Path) -> None:
    check_sweep(load_sweep_file(str(path), {}, [], {}))
    title = path.read_text().split("metric:")[0]
    for word in ("Purpose:", "Hardware:", "Time:", "Result:", f"configs/tune/{path.name}"):
        assert word in title


def test_there_is_a_sweep_of_every_kind() -> None:
    assert [path.stem for path in SHIPPED] == ["asha", "grid", "optuna", "pbt", "random"]


REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("unknown setting", {"space": {"learner.learning_rat": {"uniform": [0, 1]}}},
     ["some.yaml", "'learner.learning_rat'", "Did you mean 'learner.learning_rate'"]),
    ("bound beyond the setting's", {"space": {"learner.gamma": {"uniform": [0.9, 1.1]}}},
     ["some.yaml", "learner.gamma = 1.1", "<= 1"]),
    ("choice that is none", {"space": {"learner.lr_schedule": {"choice": ["linear", "cosin"]}}},
     ["some.yaml", "learner.lr_schedule = 'cosin'", "cosine"]),
    ("values that do not fit together",
     {"space": {"learner.num_minibatches": {"choice": [8, 7]},
                "self_play.rollout_length": {"grid": [64, 32]}}},
     ["learner.num_minibatches = 7 does not divide"]),
    ("unknown distribution", {"space": {"learner.gamma": {"gaussian": [0, 1]}}},
     ["learner.gamma", "gaussian", "loguniform"]),
    ("range without an end", {"space": {"learner.gamma": {"uniform": [0.5]}}},
     ["learner.gamma", "uniform: [low, high]"]),
    ("range the wrong way", {"space": {"learner.gamma": {"uniform": [0.9, 0.5]}}},
     ["learner.gamma", "low must be less than high"]),
    ("logarithm of zero", {"space": {"learner.learning_rate": {"loguniform": [0, 1]}}},
     ["learner.learning_rate", "above 0"]),
    ("fraction of an integer", {"space": {"learner.num_epochs": {"randint": [1, 2.5]}}},
     ["learner.num_epochs", "integers"]),
    ("step that does not divide", {"space": {"learner.gamma": {"quniform": [0.0, 1.0, 0.3]}}},
     ["learner.gamma", "multiples"]),
    ("the sweep's own setting", {"space": {"run.run_dir": {"choice": ["a", "b"]}}},
     ["run.run_dir cannot be searched"]),
    ("searched and given", {"settings": {"learner": {"learning_rate": 1e-3}}},
     ["learner.learning_rate is searched", "Leave one out"]),
    ("unknown part", {"serch": {}}, ["some.yaml", "'serch'", "Did you mean 'search'"]),
    ("unknown key", {"search": {"num_sample": 3}},
     ["'search.num_sample'", "Did you mean 'num_samples'"]),
    ("mistyped value", {"search": {"num_samples": "many"}}, ["search.num_samples = 'many'"]),
    ("unknown base setting", {"settings": {"run": {"totl": 3}}}, ["some.yaml", "'run.totl'"]),
    ("metric that is none", {"metric": {"name": "policy_los"}},
     ["'policy_los'", "Did you mean 'policy_loss'"]),
    ("metric that is text", {"metric": {"name": "amp_dtype"}}, ["'amp_dtype' is not reported"]),
    ("score without matches", {"metric": {"name": "evaluation/bare/greedy"}},
     ["'evaluation/bare/greedy'", "evaluation.interval_timesteps = null"]),
    ("matches after the end",
     {"metric": {"name": "elo/bare"}, "settings": {"evaluation": {"interval_timesteps": 2_000},
                                                   "run": {"total_timesteps": 1_000}}},
     ["evaluation.interval_timesteps = 2000", "run.total_timesteps = 1000"]),
    ("score against somebody else",
     {"metric": {"name": "evaluation/bare/greedy"},
      "settings": {"evaluation": {"interval_timesteps": 500, "opponents": ["random"]}}},
     ["'evaluation/bare/greedy'", "Opponents are random", "'evaluation/bare/random'"]),
    ("finishing that is off",
     {"metric": {"name": "evaluation/finishing/greedy"},
      "settings": {"evaluation": {"interval_timesteps": 500, "finishing": False}}},
     ["evaluation.finishing = false"]),
    ("a grid of ranges", {"search": {"method": "grid"}}, ["loguniform", "search.method = grid"]),
    ("Optuna over a grid",
     {"search": {"method": "optuna"}, "space": {"learner.gamma": {"grid": [0.9, 1.0]}}},
     ["learner.gamma is a grid", "choice"]),
    ("a rung at the end", {"scheduler": {"kind": "asha", "grace_timesteps": 10_000_000}},
     ["scheduler.grace_timesteps = 10000000", "run.total_timesteps"]),
    ("weights of two architectures",
     {"scheduler": {"kind": "pbt"}, "space": {"model.width": {"choice": [16, 32]}}},
     ["model.width cannot be searched", "pbt"]),
    ("a population of one",
     {"scheduler": {"kind": "pbt", "interval_timesteps": 500_000}}, ["search.num_samples = 1"]),
    ("exploits of old weights",
     {"scheduler": {"kind": "pbt", "interval_timesteps": 100}, "search": {"num_samples": 4}},
     ["checkpoint.interval_timesteps = 200000", "scheduler.interval_timesteps = 100"]),
    ("more actors than room", {"settings": {"self_play": {"num_actors": 5000}}},
     ["self_play.num_actors = 5000", "Use at most"]),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "named"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_a_sweep_cannot_do_is_one_line_before_anything_starts(
    parts: dict[str, Any], named: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        check_sweep(sweep_of(tmp_path, **parts))
    message = str(caught.value)
    assert "\n" not in message
    for text in named:
        assert text in message


def test_a_missing_part_and_a_file_that_is_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    for text, named in [("space: {}\n", "metric is missing"), ("[1]\n", "a list"), ("{", "YAML")]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=named):
            load_sweep_file(str(path), {}, [], {})
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_sweep_file(str(tmp_path / "nowhere.yaml"), {}, [], {})


def test_the_base_comes_from_file_environment_settings_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("learner: {gamma: 0.5, num_epochs: 2, vf_coef: 0.1}\n")
    path = tmp_path / "sweep.yaml"
    path.write_text(
        yaml.safe_dump(SMALL | {"config": "base.yaml", "settings": {"learner.num_epochs": 3}})
    )
    environ = {"KEISEI_LEARNER__VF_COEF": "0.2", "KEISEI_LEARNER__NUM_EPOCHS": "4"}
    base = load_sweep_file(str(path), environ, ["learner.clip_coef=0.3"], {}).base.learner
    assert (base.gamma, base.vf_coef, base.num_epochs, base.clip_coef) == (0.5, 0.2, 3, 0.3)
    with pytest.raises(ConfigError, match=r"learner\.learning_rate is searched"):
        load_sweep_file(str(path), environ, ["learner.learning_rate=1e-3"], {})


def test_a_sweep_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, scheduler={"kind": "asha", "grace_timesteps": 10})
    assert Sweep.from_json(sweep.to_json(), "sweep.json") == sweep
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        Sweep.from_json('{"sweep": {}}', "sweep.json")


def test_every_draw_lies_between_the_extremes_that_were_validated(tmp_path: Path) -> None:
    kinds: dict[str, list[Any]] = {
        "uniform": [0.25, 0.5],
        "quniform": [0.2, 0.8, 0.2],
        "loguniform": [1e-4, 1e-2],
        "qloguniform": [0.5, 4.0, 0.5],
        "randint": [1, 4],
        "lograndint": [1, 4],
        "qrandint": [2, 8, 2],
        "choice": ["a", "b"],
    }
    for kind, values in kinds.items():
        dimension = Dimension("some.key", kind, tuple(values))
        drawn = {dimension.domain().sample() for _ in range(300)}
        extremes = dimension.extremes()
        if kind == "choice":
            assert drawn == set(extremes)
            continue
        assert min(extremes) <= min(drawn) <= max(drawn) <= max(extremes)
        if kind.endswith("randint"):
            assert (min(drawn), max(drawn)) == extremes
        assert [dimension.clamp(v) for v in drawn] == pytest.approx(list(drawn))
        assert dimension.clamp(1000) == extremes[1]
        assert dimension.clamp(-1000) == extremes[0]


def test_a_combination_of_many_values_is_sampled_with_each_value_in_it() -> None:
    space = [Dimension(f"k{i}", "choice", (0, 1, 2)) for i in range(6)]
    drawn = list(samples(space))
    assert len(drawn) < 3**6
    assert all({d[f"k{i}"] for d in drawn} == {0, 1, 2} for i in range(6))
    assert len(list(samples(space[:3]))) == 27


def test_the_reported_names_are_those_of_tensorboard_and_wandb() -> None:
    """All of them: whatever an event of a run charts can be optimised."""
    names = metric_names(Config.model_validate({"evaluation": {"interval_timesteps": 100}}))
    for event in (updated(1), evaluated(5, "greedy", wins=3), evaluated(5, "v3", wins=3)):
        points = curve_points(event)
        assert points is not None
        assert {name for name in points.values if name != "timestep"} <= set(names)


@pytest.mark.parametrize("changed", [False, True])
def test_the_best_configuration_is_a_file_that_gives_it_back(changed: bool, tmp_path: Path) -> None:
    """Every setting, in a value that is not its default; and text that YAML could misread."""
    values = {k: v for k, v in NOT_DEFAULT.items() if not k.startswith("run.r")}
    odd = nested(values | {"tracking.wandb_name": "1e5", "tracking.wandb_group": "off"})
    config = Config.model_validate(odd) if changed else Config()
    path = tmp_path / "best.yaml"
    path.write_text("# a title\n" + config_yaml(config), encoding="utf-8")
    assert resolve_config(str(path), {}, [], {}) == config


def test_a_trial_is_the_base_with_what_was_chosen() -> None:
    base = dotted_settings(Config.model_validate({"learner": {"gamma": 0.5}}))
    config = trial_config(base, {"learner.learning_rate": 0.125})
    assert (config.learner.gamma, config.learner.learning_rate) == (0.5, 0.125)


def test_a_trial_has_room_for_learner_actors_and_evaluator_in_its_share() -> None:
    config = Config.model_validate(
        {
            "self_play": {"num_actors": 3},
            "evaluation": {"interval_timesteps": 100, "num_cpus": 0.25},
            "learner": {"num_gpus": 0.5},
        }
    )
    for cpus in (0.75, 1.0, 4.0):
        for has_gpu in (False, True):
            parts = bundles(config, cpus, has_gpu=has_gpu)
            assert len(parts) == 5
            assert sum(part.get("CPU", 0) for part in parts) <= cpus + 1e-9
            assert [part.get("GPU") for part in parts] == [0.5 if has_gpu else None] + [None] * 4


def test_a_learner_asked_onto_the_cpu_reserves_no_gpu() -> None:
    config = Config.model_validate({"learner": {"device": "cpu"}})
    assert all("GPU" not in part for part in bundles(config, 1.0, has_gpu=True))


def test_pbt_moves_along_a_choice_and_draws_from_a_range(tmp_path: Path) -> None:
    space = {"learner.num_epochs": {"choice": [1, 2, 4]}, "learner.gamma": {"uniform": [0.9, 1.0]}}
    gamma, epochs = dimensions(sweep_of(tmp_path, space=space))
    assert epochs.mutation() == [1, 2, 4]
    assert isinstance(gamma.mutation(), tune.search.sample.Domain)


def options(**given: Any) -> TuneOptions:
    values: dict[str, Any] = {
        "config": None, "overrides": [], "run_dir": None, "is_resumed": False, "address": None,
        "json": None,
    }  # fmt: skip
    return TuneOptions(**(values | given))


def test_what_cannot_be_begun_or_resumed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    from rich.console import Console

    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    taken, saved = tmp_path / "taken", tmp_path / "saved"
    taken.mkdir()
    (taken / "something").touch()
    saved.mkdir()
    (saved / "sweep.json").write_text(load_sweep_file(str(path), {}, [], {}).to_json())
    refused = [
        (options(), "--config FILE"),
        (options(config=str(path), run_dir=str(taken)), "taken is not empty"),
        (options(is_resumed=True, run_dir=str(taken)), r"no sweep to resume: sweep\.json"),
        (options(is_resumed=True, run_dir=str(saved)), "nothing to resume"),
        (options(is_resumed=True, run_dir=str(saved), overrides=["run.seed=2"]), "leave --set out"),
        (options(is_resumed=True, run_dir=str(saved), config=str(path), overrides=["run.seed=2"]),
         "is not the sweep in"),
    ]  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    for given, message in refused:
        with pytest.raises(UserError, match=message):
            run(given, {}, Console(quiet=True))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("missing", "named"), [("ray.tune", "Ray Tune"), ("optuna", "optuna")])
def test_a_missing_extra_is_one_line_and_exit_2(missing: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"search": {"method": "optuna"}}), encoding="utf-8")
    program = (
        f"import sys; sys.modules['{missing}'] = None; from keisei_ray.cli import main; "
        f"sys.exit(main(['tune', '--config', '{path}', '--run-dir', '{tmp_path / 'sweep'}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("ConfigError: ")
    assert named in line
    assert "pip install 'keisei-ray[tune]'" in line
    assert not (tmp_path / "sweep").exists()
