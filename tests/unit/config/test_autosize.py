"""Choices left to the hardware."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.autosize import (
    MIN_UPDATE_TIMESTEPS,
    actor_cpus,
    choose_schedule,
    choose_self_play_device,
    resolve_auto,
    run_sizes,
)
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from tests.helpers.setting_values import make_config


@pytest.mark.parametrize(
    ("sections", "num_cpus", "num_gpus", "expected"),
    [
        # 2 x 1024 rows reach the least of 2048.
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
        # Several learners share the cores, and each has a rollout at least.
        ({"learner": {"num_learners": 3}}, 16, 0, (3, "cpu", "off", 5)),
        ({"learner": {"num_learners": 3}}, 16, 3, (3, "cuda", "bf16", 1)),
    ],
)
def test_what_is_left_to_the_hardware(
    sections: dict[str, dict[str, object]],
    num_cpus: int,
    num_gpus: int,
    expected: tuple[int, str, str, int],
) -> None:
    config = resolve_auto(make_config(**sections), num_cpus, num_gpus)
    learner = config.learner
    assert (
        config.effective_rollouts_per_update,
        learner.device,
        learner.amp,
        learner.num_threads,
    ) == expected


@pytest.mark.parametrize(
    ("playing", "learning", "num_gpus", "has_bf16", "expected"),
    [
        ("auto", "auto", 0, True, ("bf16", "bf16")),
        ("auto", "auto", 0, False, ("off", "off")),
        # On CPUs an open one follows the other, whatever the processor.
        ("auto", "bf16", 0, False, ("bf16", "bf16")),
        ("bf16", "auto", 0, False, ("bf16", "bf16")),
        ("auto", "off", 0, True, ("off", "off")),
        ("off", "auto", 0, True, ("off", "off")),
        ("auto", "fp16", 0, True, ("off", "fp16")),
        ("off", "bf16", 0, True, ("off", "bf16")),
        # A GPU has bfloat16 whatever the actors' CPUs have.
        ("auto", "auto", 1, True, ("bf16", "bf16")),
        ("auto", "auto", 1, False, ("off", "bf16")),
        ("auto", "fp16", 1, True, ("bf16", "fp16")),
        ("off", "auto", 1, True, ("off", "bf16")),
    ],
)
def test_precision_goes_by_the_processor_and_is_one_on_cpus(
    playing: str, learning: str, num_gpus: int, has_bf16: bool, expected: tuple[str, str]
) -> None:
    config = make_config(self_play={"amp": playing, "device": "cpu"}, learner={"amp": learning})
    resolved = resolve_auto(config, 4, num_gpus, has_bf16=has_bf16)
    assert (resolved.self_play.amp, resolved.learner.amp) == expected
    assert resolve_auto(resolved, 4, num_gpus, has_bf16=not has_bf16) == resolved


@pytest.mark.parametrize(
    ("playing", "learning", "has_bf16", "expected"),
    [
        ("auto", "auto", False, ("bf16", "bf16")),
        ("auto", "off", True, ("off", "off")),
        ("auto", "fp16", True, ("off", "fp16")),
        ("off", "auto", True, ("off", "bf16")),
    ],
)
def test_on_a_gpu_self_play_has_the_precision_of_the_update(
    playing: str, learning: str, has_bf16: bool, expected: tuple[str, str]
) -> None:
    config = make_config(self_play={"amp": playing, "device": "cuda"}, learner={"amp": learning})
    resolved = resolve_auto(config, 4, 1, has_bf16=has_bf16)
    assert (resolved.self_play.amp, resolved.learner.amp) == expected


@pytest.mark.parametrize(
    ("sections", "num_gpus", "device", "reason"),
    [
        ({}, 0, "cpu", "has no GPU"),
        ({}, 1, "cuda", "1 GPU, network 4x64, 2 actors x 32 games"),
        ({"model": {"depth": 20, "width": 256}}, 8, "cuda", "8 GPU, network 20x256"),
        ({"learner": {"device": "cpu"}}, 1, "cpu", "learner is on a CPU"),
        ({"learner": {"num_gpus": 0.25}}, 1, "cpu", "num_gpus is 0.25 of the only GPU"),
        ({"learner": {"num_gpus": 1}}, 2, "cuda", "2 GPU"),
        ({"self_play": {"num_actors": "auto"}}, 1, "cpu", "num_actors is auto"),
        ({"self_play": {"num_actors": 16}}, 1, "cuda", "16 actors"),
        ({"self_play": {"num_actors": 17}}, 1, "cpu", "17 actors for 1 GPU are more than 16 each"),
        ({"self_play": {"num_actors": 17}}, 2, "cuda", "17 actors"),
        ({"model": {"depth": 3}}, 1, "cpu", "a network of 3x64 fast enough"),
        ({"model": {"depth": 1, "width": 128}}, 1, "cuda", "network 1x128"),
        ({"self_play": {"games_per_actor": 31}}, 1, "cpu", "games_per_actor 31 is less than 32"),
    ],
)
def test_an_open_device_of_self_play_is_a_gpu_where_that_pays(
    sections: dict[str, dict[str, object]], num_gpus: int, device: str, reason: str
) -> None:
    model = {"depth": 4, "width": 64} | sections.get("model", {})
    config = make_config(**sections | {"model": model})
    choice = choose_self_play_device(config, num_gpus)
    assert choice.device == device
    assert reason in choice.reason
    for asked in ("auto", device):
        values = config.model_dump()
        values["self_play"]["device"] = asked
        resolved = resolve_auto(Config.model_validate(values), 16, num_gpus)
        assert resolved.self_play.device == device
        assert resolve_auto(resolved, 16, num_gpus) == resolved


@pytest.mark.parametrize(
    ("play", "learner", "num_gpus", "expected"),
    [
        # On one GPU learner and self-play have a half each.
        ({"num_actors": 4}, {}, 1, (0.125, 0.5)),
        ({"num_actors": 3}, {}, 1, (0.1666, 0.5)),
        ({"num_actors": 4}, {"num_gpus": 0.2}, 1, (0.2, 0.2)),
        ({"num_actors": 4, "num_gpus": 0.1}, {}, 1, (0.1, 0.5)),
        # The learner has one of several; as many actors on each of the others.
        ({"num_actors": 4}, {}, 2, (0.25, 1.0)),
        ({"num_actors": 7}, {}, 4, (0.3333, 1.0)),
        ({"num_actors": 3}, {}, 8, (1.0, 1.0)),
        # A learner on a CPU leaves them all.
        ({"num_actors": 4}, {"device": "cpu"}, 1, (0.25, None)),
        # Without self-play there the learner has a GPU of its own.
        ({"device": "cpu"}, {}, 1, (None, 1.0)),
        # Each of several learners has one of its own; actors have the others, if there are any.
        ({"num_actors": 4}, {"num_learners": 2}, 4, (0.5, 1.0)),
        ({"device": "auto", "num_actors": 4}, {"num_learners": 2}, 2, (None, 1.0)),
    ],
)
def test_gpus_are_shared_out_between_learner_and_actors(
    play: dict[str, object],
    learner: dict[str, object],
    num_gpus: int,
    expected: tuple[float | None, float | None],
) -> None:
    config = make_config(self_play={"device": "cuda"} | play, learner=learner)
    resolved = resolve_auto(config, 16, num_gpus)
    found = resolved.self_play.num_gpus, resolved.learner.num_gpus
    assert found == pytest.approx(expected)
    assert resolve_auto(resolved, 16, num_gpus) == resolved
    sizes = run_sizes(resolved, 16, 0.5, num_gpus=num_gpus)
    if expected[0] is not None:
        # All of them have room; with a GPU less they have not.
        assert sizes.num_placeable >= sizes.num_actors > 0
        assert run_sizes(resolved, 16, 0.5, num_gpus=0).num_placeable == 0


def test_self_play_on_a_gpu_that_is_not_there_or_is_taken_is_refused_in_one_line() -> None:
    config = make_config(self_play={"device": "cuda"})
    with pytest.raises(ConfigError, match=r"self_play\.device = 'cuda' but the cluster has no GPU"):
        resolve_auto(config, 16, 0)
    config = make_config(self_play={"device": "cuda"}, learner={"num_gpus": 1})
    with pytest.raises(ConfigError, match=r"learner\.num_gpus = 1 takes all GPUs .* \(1\)"):
        resolve_auto(config, 16, 1)


def test_a_resolved_lockstep_config_can_be_resumed_with_other_actors() -> None:
    resolved = resolve_auto(make_config(schedule={"mode": "lockstep"}), 4, 0)
    values = resolved.model_dump()
    values["self_play"]["num_actors"] = 5
    assert Config.model_validate(values).effective_rollouts_per_update == 5


@pytest.mark.parametrize(
    ("sections", "num_cpus", "num_gpus", "may_grow", "expected"),
    [
        # One machine whose cores both would use: an actor for each core, of those asked for.
        ({"self_play": {"num_actors": 32}}, 2, 0, False, ("lockstep", 2, "share the cores, 2 of")),
        (
            {"self_play": {"num_actors": 32}},
            16,
            0,
            False,
            ("lockstep", 16, "share the cores, 16 of"),
        ),
        ({}, 2, 0, False, ("lockstep", 2, "share the cores, 2 of")),
        # On one core two small rollouts make an update large enough to learn from.
        ({}, 1, 0, False, ("lockstep", 2, "share the cores, 1 of")),
        ({"schedule": {"max_actors": 1}}, 1, 0, False, ("overlap", 1, "makes 1024 timesteps")),
        # A limit of one's own stays.
        (
            {"self_play": {"num_actors": 32}, "schedule": {"max_actors": 4}},
            2,
            0,
            False,
            ("lockstep", 4, "share the cores, 2 of"),
        ),
        # Hardware that one of the two would leave idle.
        ({"self_play": {"num_actors": 32}}, 2, 1, False, ("overlap", None, "a GPU")),
        ({"learner": {"device": "cpu"}}, 2, 1, False, ("lockstep", 2, "share the cores, 2 of")),
        ({}, 4, 0, False, ("overlap", None, "2 actors, 4 cores")),
        ({"self_play": {"num_actors": 32}}, 32, 0, False, ("overlap", None, "num_threads 16, 32")),
        ({"learner": {"num_threads": 1}}, 2, 0, False, ("overlap", None, "num_threads 1, 2 cores")),
        ({"learner": {"num_learners": 2}}, 2, 0, False, ("lockstep", 2, "share the cores, 2 of")),
        ({"learner": {"num_learners": 3}}, 2, 0, False, ("overlap", None, "num_learners is 3")),
        # What lockstep cannot do.
        ({}, 2, 0, True, ("overlap", None, "nodes may join")),
        ({"self_play": {"num_actors": "auto"}}, 2, 0, False, ("overlap", None, "auto")),
        ({"schedule": {"max_policy_lag": 2}}, 2, 0, False, ("overlap", None, "lag is 2")),
        ({"schedule": {"rollouts_per_update": 4}}, 2, 0, False, ("overlap", None, "is 4")),
        (
            {"self_play": {"num_actors": 8}, "schedule": {"rollouts_per_update": 8}},
            4,
            0,
            False,
            ("overlap", None, "rollouts_per_update is 8"),
        ),
        ({"self_play": {"games_per_actor": 8}}, 2, 0, False, ("overlap", None, "512 timesteps")),
    ],
)
def test_an_open_schedule_is_lockstep_where_self_play_and_learning_share_the_cores(
    sections: dict[str, dict[str, object]],
    num_cpus: int,
    num_gpus: int,
    may_grow: bool,
    expected: tuple[str, int | None, str],
) -> None:
    mode, max_actors, reason = expected
    config = make_config(**sections)
    choice = choose_schedule(config, num_cpus, num_gpus, may_grow=may_grow)
    resolved = resolve_auto(config, num_cpus, num_gpus, may_grow=may_grow)
    assert choice.mode == resolved.schedule.mode == mode
    assert reason in choice.reason
    assert resolved.schedule.max_actors == max_actors
    # The number that was asked for is kept, so that the same command resumes the run.
    assert resolved.self_play.num_actors == config.self_play.num_actors


@pytest.mark.parametrize("mode", ["overlap", "lockstep"])
def test_a_schedule_that_was_asked_for_stays(mode: str) -> None:
    asked = make_config(self_play={"num_actors": 32}, schedule={"mode": mode})
    resolved = resolve_auto(asked, 2, 0)
    assert (resolved.schedule.mode, resolved.schedule.max_actors) == (mode, None)


def test_only_so_many_actors_are_started_as_the_limit_says() -> None:
    limited = resolve_auto(
        make_config(self_play={"num_actors": 32}, schedule={"mode": "lockstep", "max_actors": 3}),
        4,
        0,
    )
    each = actor_cpus(limited, 4)
    sizes = run_sizes(limited, 4, each)
    assert (each, sizes.num_actors, sizes.rollouts_per_update) == (1.0, 3, 3)


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
    config = make_config(
        self_play={"num_actors": num_actors, "games_per_actor": games, "rollout_length": length},
        schedule={"max_policy_lag": lag},
        learner={"num_minibatches": parts if games * length % parts == 0 else 1},
    )
    once = resolve_auto(config, num_cpus, num_gpus)
    assert resolve_auto(once, num_cpus, num_gpus) == once
    assert resolve_auto(once, 999, num_gpus) == once
    assert once.timesteps_per_update >= MIN_UPDATE_TIMESTEPS
    assert once.timesteps_per_update % once.learner.num_minibatches == 0
    assert "auto" not in (once.learner.device, once.learner.amp, once.self_play.amp)
    assert once.learner.num_threads is not None


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"learner\.device = 'cuda'"):
        resolve_auto(make_config(learner={"device": "cuda"}), 8, 0)


def elastic_config(num_actors: int | str = "auto", **sections: dict[str, object]) -> Config:
    return make_config(self_play={"num_actors": num_actors}, **sections)


@pytest.mark.parametrize(
    ("sections", "num_cpus", "num_actors"),
    [
        ({"self_play": {"num_actors": "auto:0.5"}}, 9, 4),
        ({"self_play": {"num_actors": "auto", "auto_share": 0.25}}, 9, 2),
        ({"self_play": {"num_actors": "auto:1"}}, 9, 8),
        # One at least, while there is room for it.
        ({"self_play": {"num_actors": "auto:0.01"}}, 9, 1),
        ({"self_play": {"num_actors": "auto"}, "schedule": {"max_actors": 3}}, 9, 3),
        ({"self_play": {"num_actors": "auto:0.5"}, "schedule": {"max_actors": 3}}, 9, 3),
    ],
)
def test_an_elastic_run_takes_no_more_than_its_share_of_a_cluster_of_several(
    sections: dict[str, dict[str, object]], num_cpus: int, num_actors: int
) -> None:
    config = resolve_auto(make_config(**sections), num_cpus, 0, may_grow=True)
    each = actor_cpus(config, num_cpus)
    sizes = run_sizes(config, num_cpus, each)
    assert (each, sizes.num_actors, sizes.num_placeable) == (1.0, num_actors, 8)
    assert run_sizes(config, 1, each).num_actors == 0
    # Saved and read again it is the same.
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("num_cpus", "actors"), [(2, 1), (3, 2), (17, 16)])
def test_an_elastic_run_has_an_actor_for_each_cpu_that_the_learner_leaves(
    num_cpus: int, actors: int
) -> None:
    elastic = resolve_auto(elastic_config(), num_cpus, 0)
    each = actor_cpus(elastic, num_cpus)
    found = run_sizes(elastic, num_cpus, each)
    assert (each, found.num_actors, found.num_placeable) == (1.0, actors, actors)


def test_one_cpu_is_shared_by_learner_and_actor() -> None:
    elastic = resolve_auto(elastic_config(), 1, 0)
    each = actor_cpus(elastic, 1)
    assert (each, run_sizes(elastic, 1, each).num_actors) == (0.5, 1)


def test_an_evaluator_that_reserves_cpus_leaves_fewer_actors() -> None:
    elastic = resolve_auto(
        elastic_config(evaluation={"interval_timesteps": 1000, "num_cpus": 1.0}), 8, 0
    )
    assert run_sizes(elastic, 8, actor_cpus(elastic, 8)).num_actors == 6


@given(st.integers(1, 64), st.integers(1, 200), st.integers(1, 64), st.integers(0, 3))
def test_within_the_lag_every_actor_that_has_room_can_play(
    first: int, num_actors: int, now: int, lag: int
) -> None:
    for asked in ("auto", num_actors):
        schedule = {"mode": "overlap", "max_policy_lag": lag}
        run = resolve_auto(elastic_config(asked, schedule=schedule), first, 0)
        found = run_sizes(run, now, actor_cpus(run, first))
        assert found.max_unconsumed == found.rollouts_per_update * (lag + 1)
        if asked == "auto":
            assert found.max_unconsumed >= found.num_actors
            assert found.num_actors == found.num_placeable
        else:
            assert found.num_actors == num_actors
            # What was decided at the start stays.
            assert found.rollouts_per_update == run.schedule.rollouts_per_update
        if now == first:
            assert found.num_placeable >= found.num_actors


def test_what_is_decided_at_the_start_holds_for_one_actor_too() -> None:
    """The learner's threads must not exceed the rows of the smallest minibatch."""
    elastic = resolve_auto(elastic_config(learner={"num_minibatches": 1024}), 64, 0)
    assert elastic.schedule.rollouts_per_update is None
    assert elastic.learner.num_threads == 2
    assert resolve_auto(elastic, 2, 0) == elastic


@given(st.integers(1, 500), st.integers(1, 4))
def test_while_an_update_is_under_way_all_actors_can_play_the_next_rollouts(
    num_actors: int, lag: int
) -> None:
    schedule = {"mode": "overlap", "max_policy_lag": lag}
    run = resolve_auto(elastic_config(num_actors, schedule=schedule), 999, 0)
    found = run_sizes(run, 999, 1.0)
    assert found.max_unconsumed - found.rollouts_per_update >= num_actors


def test_more_threads_than_rows_of_a_minibatch_are_refused_in_one_line() -> None:
    config = Config.model_validate({"learner": {"num_threads": 200}})
    with pytest.raises(ConfigError, match=r"learner\.num_threads") as refused:
        resolve_auto(config, num_cpus=2, num_gpus=0)
    assert "\n" not in str(refused.value)
