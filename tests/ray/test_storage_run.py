"""A real run whose directory is a bucket: the machine is lost, another one goes on."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import StorageError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.remote.remote_resume import use_local_copy
from keisei_ray.storage.remote.remote_run import checkpoints_at, local_copy
from keisei_ray.storage.remote.uploader import Uploader
from keisei_ray.storage.run_layout import checkpoint_name
from keisei_ray.tracking import background_upload
from keisei_ray.training import session
from tests.helpers.program import DEBUG_CONFIG, json_records, run_program
from tests.helpers.s3 import SECRET, TOKEN, s3_server
from tests.helpers.training_run import train

pytestmark = pytest.mark.ray

UPDATE = 128
LOCKSTEP = (
    "--config", DEBUG_CONFIG, "--set", "schedule.mode=lockstep",
    "--set", "evaluation.interval_timesteps=null", "--set", "tracking.log_level=DEBUG",
    "--set", f"checkpoint.interval_timesteps={UPDATE}", "--set", "checkpoint.keep_last=2",
    "--set", "self_play.max_plies=32", "--set", "self_play.random_opening_plies=8",
    "--num-actors", "1", "--set", "schedule.rollouts_per_update=1",
)  # fmt: skip


@dataclass
class Story:
    """Two sessions of a run: on a machine that is lost, and on another one."""

    uri: str
    lost: "subprocess.CompletedProcess[str]"
    lost_dir: Path
    """A copy of the lost machine's directory."""
    second: "subprocess.CompletedProcess[str]"
    second_dir: Path
    names: set[str]
    """Content of the bucket when the first machine was lost."""
    folder: Path


@pytest.fixture(scope="module")
def story(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    with s3_server() as s3:
        uri = f"s3://{s3.bucket()}/runs/first"
        total = ("--total-timesteps", str(3 * UPDATE))
        (folder / "lost").mkdir()
        (folder / "second").mkdir()
        lost = run_program(
            *LOCKSTEP, "--run-dir", uri, *total, cwd=folder / "lost", cluster=cluster
        )
        kept = folder / "kept"
        shutil.copytree(folder / "lost" / local_copy(uri), kept)
        shutil.rmtree(folder / "lost")
        names = set(Storage.open(uri).names())
        more = ("--resume", "latest", "--total-timesteps", str(5 * UPDATE))
        second = run_program("--run-dir", uri, *more, cwd=folder / "second", cluster=cluster)
        yield Story(uri, lost, kept, second, folder / "second" / local_copy(uri), names, folder)


def newest(run_dir: Path) -> checkpoint.Checkpoint:
    found = checkpoint.find_latest(
        run_dir / "checkpoints", on_skip=lambda path, cause: pytest.fail(cause)
    )
    assert found is not None
    return found


def test_the_bucket_has_what_the_lost_machine_had_and_the_last_line_says_so(story: Story) -> None:
    assert (story.lost.returncode, story.lost.stderr) == (0, "")
    last = newest(story.lost_dir).path.name
    assert story.lost.stdout.splitlines()[-1] == f"checkpoint {last} is at {story.uri}"
    here = {str(p.relative_to(story.lost_dir)) for p in story.lost_dir.rglob("*") if p.is_file()}
    assert story.names == here | {".writer"}
    assert sum(name.endswith("manifest.json") for name in here) == 2


def test_another_machine_goes_on_bit_for_bit(
    story: Story, cluster: Cluster, tmp_path: Path
) -> None:
    """As the lost machine would have with its own directory."""
    assert (story.second.returncode, story.second.stderr) == (0, "")
    config = Config.model_validate_json((story.second_dir / "config.json").read_text())
    run_dir = tmp_path / "run"
    shutil.copytree(story.lost_dir, run_dir)
    reference = newest(train(config, cluster, run_dir, resume=newest(run_dir)).run_dir)
    second = newest(story.second_dir)
    assert second.timestep == reference.timestep == 5 * UPDATE
    assert second.info["weights_digest"] == reference.info["weights_digest"]
    assert second.files["model.safetensors"] == reference.files["model.safetensors"]


def test_curves_and_game_counts_go_on(story: Story) -> None:
    metrics = json_records(story.second_dir / "metrics.jsonl")
    assert [m["timestep"] for m in metrics] == [UPDATE * (i + 1) for i in range(5)]
    games = json_records(story.second_dir / "games.jsonl")
    assert metrics[-1]["games_total"] == len(games) > 0
    started = [
        e for e in json_records(story.second_dir / "events.jsonl") if e["kind"] == "run_started"
    ]
    assert len(started) == 2


def test_the_second_machine_uploads_too_and_the_bucket_keeps_what_the_rule_keeps(
    story: Story,
) -> None:
    last = newest(story.second_dir).path.name
    assert story.second.stdout.splitlines()[-1] == f"checkpoint {last} is at {story.uri}"
    storage = Storage.open(story.uri)
    assert sum(name.endswith("manifest.json") for name in storage.names()) == 2
    for name in ("metrics.jsonl", "games.jsonl", "events.jsonl"):
        assert storage.read(name) == (story.second_dir / name).read_bytes()


def test_no_secret_is_in_any_file_or_output(story: Story) -> None:
    storage = Storage.open(story.uri)
    said = [r.stdout + r.stderr for r in (story.lost, story.second)]
    texts = [text.encode() for text in said] + [storage.read(n) or b"" for n in storage.names()]
    texts += [path.read_bytes() for path in story.folder.rglob("*") if path.is_file()]
    assert len(texts) > 20
    assert not [t for t in texts if SECRET.encode() in t or TOKEN.encode() in t]


def test_the_settings_name_the_uri_and_so_a_resume_without_run_dir_finds_it(story: Story) -> None:
    config = json.loads((story.second_dir / "config.json").read_text())
    assert config["run"]["run_dir"] == story.uri


def test_a_report_and_a_match_are_made_from_the_uri(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", story.uri, "--out", str(tmp_path / "page.html")]) == 0
    result = tmp_path / "result.json"
    arguments = ["evaluate", "--checkpoint", story.uri, "--opponent", "random", "--games", "2"]
    assert main([*arguments, "--json", str(result)]) == 0
    last = newest(story.second_dir).path.name
    assert f"{story.uri}/checkpoints/{last}" in result.read_text()
    capsys.readouterr()
    assert main(["report", story.uri]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_fresh_run_where_one_lies_is_one_line_and_exit_2(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run-dir", story.uri]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert "already holds a run" in errors


def test_a_run_that_goes_back_stays_there_though_none_of_its_uploads_succeeds(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Uploader) -> None:
        raise StorageError("no network")

    monkeypatch.chdir(tmp_path)
    uri = f"file://{tmp_path}/bucket/runs/first"
    settings: dict[str, dict[str, Any]] = {
        "run": {"run_dir": uri, "total_timesteps": 4 * UPDATE},
        "self_play": {"num_actors": 1, "games_per_actor": 8, "rollout_length": 16},
        "schedule": {"mode": "lockstep", "rollouts_per_update": 1},
        "model": {"depth": 1, "width": 16, "value_hidden": 8},
        "learner": {"num_epochs": 1, "num_minibatches": 2},
        "checkpoint": {"interval_timesteps": UPDATE, "keep_last": 9, "upload_timeout_s": 30.0},
        "evaluation": {"interval_timesteps": None},
        "tracking": {"view": "none"},
    }
    session.train(Config.model_validate(settings), Console(quiet=True), cluster=cluster)
    back = f"{uri}/checkpoints/{checkpoint_name(UPDATE)}"
    settings["run"] |= {"resume": back, "total_timesteps": 2 * UPDATE}
    monkeypatch.setattr(background_upload, "ATTEMPTS", 1)
    monkeypatch.setattr(Uploader, "run", refuse)
    with pytest.raises(StorageError, match="is NOT at"):
        session.train(Config.model_validate(settings), Console(quiet=True), cluster=cluster)
    assert checkpoints_at(Storage.open(uri)) == [checkpoint_name(UPDATE)]
    settings["run"] |= {"resume": "latest"}
    config, _ = use_local_copy(Config.model_validate(settings), print, pytest.fail)
    assert Path(config.run.resume or "").name == checkpoint_name(2 * UPDATE)
