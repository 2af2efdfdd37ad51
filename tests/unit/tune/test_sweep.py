"""Sweep files that are refused before a sweep starts; the shipped ones are not."""

from pathlib import Path
from typing import Any

import pytest

from keisei_ray.errors import UserError
from keisei_ray.tune.sweep import NUM_CHECKPOINTS_PBT, check_sweep, num_checkpoints
from keisei_ray.tune.sweep_file import load_sweep_file
from tests.helpers.sweeps import sweep_of

ROOT = Path(__file__).parents[3]


SHIPPED = sorted(p for p in (ROOT / "configs/tune").glob("*.yaml") if p.stem != "wandb-sweep")


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
    ("choice that is invalid", {"space": {"learner.lr_schedule": {"choice": ["linear", "cosin"]}}},
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
    ("unknown metric", {"metric": {"name": "policy_los"}},
     ["'policy_los'", "Did you mean 'policy_loss'"]),
    ("metric that is text", {"metric": {"name": "amp_dtype"}}, ["'amp_dtype' is not reported"]),
    ("score without matches", {"metric": {"name": "evaluation/bare/greedy"}},
     ["'evaluation/bare/greedy'", "evaluation.interval_timesteps = null"]),
    ("matches after the end",
     {"metric": {"name": "elo/bare"}, "settings": {"evaluation": {"interval_timesteps": 2_000},
                                                   "run": {"total_timesteps": 1_000}}},
     ["evaluation.interval_timesteps = 2000", "run.total_timesteps = 1000"]),
    ("score against another opponent",
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
    ("more actors than fit", {"settings": {"self_play": {"num_actors": 5000}}},
     ["self_play.num_actors = 5000", "Use at most"]),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "named"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_sweep_that_cannot_run_is_refused_in_one_line_before_anything_starts(
    parts: dict[str, Any], named: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        check_sweep(sweep_of(tmp_path, **parts))
    message = str(caught.value)
    assert "\n" not in message
    for text in named:
        assert text in message


@pytest.mark.parametrize(("every", "between"), [(1000, 1), (400, 3), (250, 4)])
def test_a_checkpoint_that_pbt_may_copy_is_kept_until_the_next_comparison(
    every: int, between: int, tmp_path: Path
) -> None:
    scheduler = {"kind": "pbt", "interval_timesteps": 1000}
    settings = {"run": {"total_timesteps": 4000}, "checkpoint": {"interval_timesteps": every}}
    sweep = sweep_of(tmp_path, settings=settings, scheduler=scheduler, search={"num_samples": 2})
    assert num_checkpoints(sweep) == NUM_CHECKPOINTS_PBT + between
    assert num_checkpoints(sweep_of(tmp_path, settings=settings)) == 2
