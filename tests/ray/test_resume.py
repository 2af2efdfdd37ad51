"""A run that was stopped goes on from its checkpoint as if it had not been stopped."""

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import ray
import torch

from keisei_ray.config.schema import Config
from keisei_ray.distributed import learner_handle
from keisei_ray.distributed.actors import LearnerShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import DeviceMemoryError
from keisei_ray.learning.schedules import scheduled_learning_rate
from keisei_ray.rollouts.actor_state import read_states
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import ACTORS_FILE, LEARNER_FILE, checkpoint_name
from keisei_ray.telemetry.events import ActorReady, Event, RolloutArrived, UpdateFinished
from keisei_ray.training.run_start import find_resume
from tests.helpers.training_run import Run, learner_actors, overlap_config, train

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

UPDATE, RESUMED_AFTER, STOP_AFTER, NUM_UPDATES = 64, 3, 4, 8
CONFIG = overlap_config(
    run={"total_timesteps": NUM_UPDATES * UPDATE},
    checkpoint={"interval_timesteps": RESUMED_AFTER * UPDATE},
)
STEPS_PER_UPDATE = CONFIG.learner.num_epochs * CONFIG.learner.num_minibatches


@dataclass
class Resumed:
    """One run in two parts, the second from a checkpoint before the end of the first.

    So it goes on as after a kill: updates and rollouts beyond the checkpoint are gone.
    """

    first: Run
    stopped_at: Checkpoint
    second: Run


@pytest.fixture(scope="module")
def resumed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    run_dir = tmp_path_factory.mktemp("run")
    updates: list[Event] = []

    def count(event: Event) -> None:
        if isinstance(event, UpdateFinished):
            updates.append(event)

    first = train(
        CONFIG,
        cluster,
        run_dir,
        subscribers=[count],
        should_stop=lambda: len(updates) >= STOP_AFTER,
    )
    stopped_at = latest(run_dir)
    saved = checkpoint.load(run_dir / "checkpoints" / checkpoint_name(RESUMED_AFTER * UPDATE))
    return Resumed(first, stopped_at, train(CONFIG, cluster, run_dir, resume=saved))


def latest(run_dir: Path) -> Checkpoint:
    found = checkpoint.find_latest(run_dir / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    return found


def optimizer_steps(saved: Checkpoint) -> set[int]:
    """Returns the step counts of Adam over all parameters."""
    state = torch.load(io.BytesIO(saved.files[LEARNER_FILE]), weights_only=True)
    return {int(entry["step"]) for entry in state["optimizer"]["state"].values()}


def test_a_stop_request_saves_the_newest_update(resumed: Resumed) -> None:
    assert resumed.stopped_at.timestep == STOP_AFTER * UPDATE
    assert resumed.stopped_at.info["weights_version"] == STOP_AFTER


def test_counts_and_versions_go_on(resumed: Resumed) -> None:
    records = resumed.second.lines("metrics.jsonl")
    steps = [record["timestep"] for record in records]
    assert steps == [UPDATE * (i + 1) for i in range(NUM_UPDATES)]
    assert [record["weights_version"] for record in records] == list(range(1, NUM_UPDATES + 1))
    times = [record["wall_time_s"] for record in records]
    assert times == sorted(times)
    assert latest(resumed.second.run_dir).timestep == NUM_UPDATES * UPDATE


def test_optimizer_and_learning_rate_go_on(resumed: Resumed) -> None:
    assert optimizer_steps(resumed.stopped_at) == {STOP_AFTER * STEPS_PER_UPDATE}
    assert optimizer_steps(latest(resumed.second.run_dir)) == {NUM_UPDATES * STEPS_PER_UPDATE}
    for record in resumed.second.lines("metrics.jsonl"):
        share = (record["timestep"] - UPDATE) / CONFIG.run.total_timesteps
        expected = scheduled_learning_rate(CONFIG.learner, share)
        assert record["learning_rate"] == pytest.approx(expected)


def test_games_count_once_across_the_resume(resumed: Resumed) -> None:
    games = resumed.second.lines("games.jsonl")
    last = resumed.second.lines("metrics.jsonl")[-1]
    assert len({game["game_id"] for game in games}) == len(games) == last["games_total"]
    assert last["games_total"] == sum(
        last[name] for name in ("black_wins", "white_wins", "draws", "truncated")
    )


def test_every_ply_counts_once_across_the_resume(resumed: Resumed) -> None:
    """Each timestep is one ply of a finished game or of one that is still in play."""
    saved = latest(resumed.second.run_dir)
    games = resumed.second.lines("games.jsonl")
    states = read_states(saved.files[ACTORS_FILE])
    plies = sum(game["plies"] - game["opening_plies"] for game in games)
    for actor_id, state in states.items():
        plies += sum(len(game.moves) // 2 - game.opening_plies for game in state.games.games)
        finished = {game["index"] for game in games if game["actor_id"] == actor_id}
        in_play = {game.index for game in state.games.games}
        assert finished | in_play == set(range(state.games.next_index))
    assert plies == saved.timestep == NUM_UPDATES * UPDATE


def test_plies_that_were_not_learned_from_are_lost_and_counted(resumed: Resumed) -> None:
    progress = resumed.second.driver.progress
    waiting = len(resumed.second.driver._rollouts.delivered) * UPDATE // 2
    assert progress.timesteps_collected == progress.timestep + progress.timesteps_lost + waiting


def test_resumed_actors_play_on_as_the_incarnations_that_they_were(resumed: Resumed) -> None:
    for run in (resumed.first, resumed.second):
        assert {event.incarnation for event in run.of(ActorReady)} == {0}
    arrived = [e for e in resumed.second.of(RolloutArrived) if e.weights_version == RESUMED_AFTER]
    assert arrived, "the first rollouts are played with the weights of the checkpoint"


def test_latest_passes_over_a_truncated_checkpoint_and_says_so(
    resumed: Resumed, tmp_path: Path
) -> None:
    copy = tmp_path / "checkpoints"
    for saved in (resumed.stopped_at, latest(resumed.second.run_dir)):
        checkpoint.save(copy, saved.timestep, saved.files, saved.info)
    newest = sorted(copy.iterdir())[-1] / LEARNER_FILE
    newest.write_bytes(newest.read_bytes()[:-7])
    skipped: list[str] = []
    found = find_resume(with_run(run_dir=str(tmp_path), resume="latest"), skipped)
    assert found is not None
    assert found.timestep == resumed.stopped_at.timestep
    assert len(skipped) == 1
    assert str(newest.parent) in skipped[0]


def with_run(**changes: object) -> Config:
    return CONFIG.model_copy(update={"run": CONFIG.run.model_copy(update=changes)})


class HasNoRoom(LearnerShell):
    """A learner whose device is full when it is to go on from a checkpoint."""

    def restore(self, files: Mapping[str, bytes]) -> None:
        def load(*_: object, **__: object) -> NoReturn:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        torch.load = load
        super().restore(files)


def test_a_learner_that_has_no_room_ends_the_run_and_refuses_no_checkpoint(
    resumed: Resumed, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_handle, "new_learner_actor", learner_actors(HasNoRoom))
    run = train(
        CONFIG,
        cluster,
        tmp_path / "run",
        resume=resumed.stopped_at,
        fails_with=(DeviceMemoryError,),
    )
    assert str(run.error).startswith(
        "The learner does not get the memory that it needs: CUDA out of memory. Tried to allocate "
        "2.00 GiB. No checkpoint is at fault."
    )
