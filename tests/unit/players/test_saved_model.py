"""Checkpoints that may play, and those that must not."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from keisei_ray.errors import CheckpointError, UnreadableCheckpointError
from keisei_ray.network.model import build_model
from keisei_ray.players.player import checkpoint_player, open_player
from keisei_ray.players.saved_model import find_checkpoint, load_model, open_checkpoint
from keisei_ray.storage import checkpoint
from tests.helpers.saved_runs import save_untrained
from tests.helpers.tiny import tiny_config
from tests.helpers.unreadable import refuse_reading


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, of seeds 1 and 2."""
    run_dir = tmp_path_factory.mktemp("run")
    save_untrained(run_dir, timestep=100, seed=1)
    save_untrained(run_dir, timestep=200, seed=2)
    return run_dir


def test_run_directory_and_checkpoints_directory_mean_the_newest(saved_run: Path) -> None:
    newest = saved_run / "checkpoints" / "step-000000000200"
    for path in (saved_run, saved_run / "checkpoints", newest):
        assert find_checkpoint(path).path == newest
    older = newest.with_name("step-000000000100")
    assert find_checkpoint(older).path == older


def test_one_that_cannot_be_read_is_skipped_unless_it_is_to_be_resumed(
    saved_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = saved_run / "checkpoints" / "step-000000000200"
    refuse_reading(monkeypatch, newest / "manifest.json")
    assert find_checkpoint(saved_run).path.name == "step-000000000100"
    with pytest.raises(UnreadableCheckpointError, match=str(newest)):
        find_checkpoint(saved_run, skips_unreadable=False)


def test_latest_is_the_run_that_began_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no run under .*runs/, expected") as error:
        open_checkpoint("latest")
    # It has several callers: flags, an option of the engine, the library.
    assert "--" not in str(error.value)
    assert "option" not in str(error.value)
    for age, name in enumerate(("b", "a")):
        run_dir = tmp_path / "runs" / name
        save_untrained(run_dir, timestep=100 + age, seed=1)
        (run_dir / "config.json").write_text("{}")
        os.utime(run_dir / "config.json", (1_000_000 + age, 1_000_000 + age))
    where, found = open_checkpoint("latest")
    assert where == str(found.path)
    assert found.timestep == 101


def test_an_empty_path_is_refused_though_the_current_directory_is_a_run(
    saved_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved_run)
    with pytest.raises(CheckpointError, match="path of the checkpoint is empty, expected that of"):
        open_checkpoint("")


def test_at_a_uri_no_checkpoint_differs_from_damaged_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint, expected a run with one"):
        open_checkpoint(f"file://{tmp_path}")
    (save_untrained(tmp_path, timestep=7) / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"has no intact checkpoint \(1 damaged\)"):
        open_checkpoint(f"file://{tmp_path}")


def test_damaged_newest_is_skipped_in_a_run_and_refused_by_name(
    saved_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "copy"
    shutil.copytree(saved_run, run_dir)
    newest = run_dir / "checkpoints" / "step-000000000200"
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert find_checkpoint(run_dir).timestep == 100
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint_player(newest)
    shutil.rmtree(newest.with_name("step-000000000100"))
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        open_player(f"checkpoint:{run_dir}")


def test_weights_other_than_the_checkpoint_names_do_not_play(
    saved_run: Path, tmp_path: Path
) -> None:
    """The file is intact and of the right shape, but holds other weights than were saved."""
    newest = find_checkpoint(saved_run)
    older = checkpoint.load(newest.path.with_name("step-000000000100"))
    mixed = checkpoint.load(checkpoint.save(tmp_path, 200, older.files, newest.info))
    with pytest.raises(CheckpointError, match="digest"):
        load_model(mixed)


def test_evaluated_weights_are_the_saved_ones(saved_run: Path) -> None:
    expected = build_model(tiny_config().model, seed=2).state_dict()
    model = load_model(find_checkpoint(saved_run))
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


def test_checkpoint_without_model_section_is_refused(saved_run: Path, tmp_path: Path) -> None:
    newest = find_checkpoint(saved_run)
    for info in ({}, newest.info | {"model": "{}x"}, newest.info | {"model": '{"depth": 0}'}):
        saved = checkpoint.load(checkpoint.save(tmp_path, 1, newest.files, info))
        with pytest.raises(CheckpointError, match="model"):
            load_model(saved)


@pytest.mark.parametrize(
    "larger", [{"width": 10**6}, {"depth": 10**6}, {"value_hidden": 10**9}, {"width": 10**400}]
)
def test_a_larger_network_than_there_are_weights_of_is_refused_before_it_is_built(
    saved_run: Path, larger: dict[str, int]
) -> None:
    newest = find_checkpoint(saved_run)
    section = json.loads(str(newest.info["model"])) | larger
    info = newest.info | {"model": json.dumps(section)}
    with pytest.raises(CheckpointError, match=r"of a larger network than model\.safetensors has"):
        load_model(replace(newest, info=info))


def test_a_long_model_section_is_named_by_its_beginning(saved_run: Path) -> None:
    newest = find_checkpoint(saved_run)
    with pytest.raises(CheckpointError, match=r"not a model section .* '\[\[\[") as error:
        load_model(replace(newest, info=newest.info | {"model": "[" * 100_000}))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("inside", ["", "checkpoints"])
def test_directory_without_a_checkpoint_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    with pytest.raises(CheckpointError):
        find_checkpoint(tmp_path)


def test_a_path_that_cannot_be_looked_at_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        find_checkpoint(tmp_path / ("x" * 300))
