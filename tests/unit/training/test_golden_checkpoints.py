"""Checkpoints of earlier programs: what was once saved can be resumed and played for ever."""

import json
import shutil
from pathlib import Path

import pytest

from keisei_ray.config.resolver import load_config_json
from keisei_ray.errors import CheckpointError
from keisei_ray.learning.learner import Learner
from keisei_ray.players.saved_model import find_checkpoint, load_model
from keisei_ray.rollouts.actor_state import read_states
from keisei_ray.selfplay.pool import Pool
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.storage import checkpoint
from keisei_ray.storage.manifest import SCHEMA, _digest
from keisei_ray.storage.run_layout import ACTORS_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.saved_run import check_digest

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
SAVED = sorted(path.parent for path in GOLDEN.glob("*/*/manifest.json"))


def test_every_schema_that_is_read_has_a_golden_checkpoint() -> None:
    found = {json.loads((path / "manifest.json").read_text())["schema"] for path in SAVED}
    assert found == set(range(1, SCHEMA + 1))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.parent.name)
def test_a_learner_goes_on_from_it_with_the_very_weights(path: Path) -> None:
    saved = checkpoint.load(path)
    config = load_config_json(saved.files["config.json"].decode(), "config.json")
    learner = Learner(config)
    before = learner.weights_digest()
    learner.load_state_files(saved.files)
    assert learner.weights_digest() != before
    check_digest(saved, learner.weights_digest())
    progress = Progress.from_json(saved.files["progress.json"])
    assert (progress.timestep, progress.updates) == (saved.timestep, 1)
    pool = Pool(config.pool)
    pool.restore(saved.files["pool.json"])
    assert [member.name for member in pool.members] == ["greedy", "v1"]


@pytest.mark.parametrize(
    "path", [p for p in SAVED if (p / ACTORS_FILE).exists()], ids=lambda path: path.parent.name
)
def test_an_actor_plays_on_from_it(path: Path) -> None:
    saved = checkpoint.load(path)
    config = load_config_json(saved.files["config.json"].decode(), "config.json")
    learner, actor = Learner(config), SelfPlay(config, 0, 0)
    learner.load_state_files(saved.files)
    actor.set_weights(learner.weights())
    actor.restore(read_states(saved.files[ACTORS_FILE])[0])
    header = actor.collect()[0].header
    assert (header.sequence, header.weights_version) == (1, 1)


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.parent.name)
def test_it_can_be_played_against(path: Path) -> None:
    saved = find_checkpoint(path.parent)
    assert saved.path == path
    load_model(saved)  # It compares the digest.


def test_one_of_a_newer_program_is_refused_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / SAVED[-1].name
    shutil.copytree(SAVED[-1], path)
    body = json.loads((path / "manifest.json").read_text()) | {"schema": SCHEMA + 1}
    del body["digest"]
    (path / "manifest.json").write_text(json.dumps(body | {"digest": _digest(body)}))
    newer = f"has schema {SCHEMA + 1}; this program reads up to {SCHEMA}. Upgrade it"
    with pytest.raises(CheckpointError, match=newer):
        checkpoint.load(path)
