"""Where a run starts: in which directory, as its only writer, from which settings. No Ray."""

import contextlib
import dataclasses
import os
import shutil
import socket
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray import cli
from keisei_ray.arguments import parse_arguments
from keisei_ray.config.schema import Config
from keisei_ray.errors import RunDirError, RunDirLostError, UnreadableCheckpointError, UserError
from keisei_ray.storage import checkpoint, run_dirs
from keisei_ray.storage.remote.remote_run import local_copy
from keisei_ray.storage.run_dirs import RAY_JOB, RUNS_DIR
from keisei_ray.storage.run_lock import run_lock
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training import run_start
from keisei_ray.training.run_start import choose_run_dir, claimed_start, saved_settings
from keisei_ray.tune.command import TuneOptions, _new_sweep_dir
from keisei_ray.tune.command import _new as sweep_place
from tests.helpers.killed_writers import being_saved
from tests.helpers.saved_runs import save_untrained
from tests.helpers.tiny import tiny_config
from tests.helpers.unreadable import SYSTEM_ERRORS, refuse_reading


@pytest.fixture
def job_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory is one that came with a job."""
    path = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    path.mkdir(parents=True)
    monkeypatch.chdir(path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(RAY_JOB, "{}")
    return path


def with_run_dir(run_dir: str | None) -> Config:
    return Config.model_validate({"run": {"run_dir": run_dir}})


def new_place() -> Path:
    """The directory of a run that names none."""
    with claimed_start(with_run_dir(None)) as start:
        return start.run_dir


def test_a_run_in_a_jobs_working_directory_is_refused(job_dir: Path, tmp_path: Path) -> None:
    for run_dir in ("runs/x", str(job_dir / "x")):
        with pytest.raises(RunDirError, match=f"run.run_dir = {run_dir} lies in the job's working"):
            choose_run_dir(with_run_dir(run_dir))
    assert choose_run_dir(with_run_dir(str(tmp_path / "x"))) == tmp_path / "x"


def test_a_job_that_names_no_run_directory_gets_one_in_the_home(
    job_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert new_place().parent == tmp_path / "home" / RUNS_DIR
    (tmp_path / "home" / RUNS_DIR / "a").mkdir(parents=True)
    (tmp_path / "home" / RUNS_DIR / "a" / "mark").touch()
    assert run_dirs.newest_run_dir(["mark"]) == tmp_path / "home" / RUNS_DIR / "a"
    monkeypatch.delenv(RAY_JOB)
    assert new_place().parent == Path(RUNS_DIR)


def test_a_sweep_in_a_jobs_working_directory_is_refused(job_dir: Path, tmp_path: Path) -> None:
    sweep_file = str(Path(__file__).parents[3] / "configs" / "tune" / "random.yaml")
    given = TuneOptions(sweep_file, [], "runs/x", False, None, None)
    with pytest.raises(RunDirError, match="runs/x lies in the job's working"):
        sweep_place(given, {})
    left_out = dataclasses.replace(given, run_dir=None)
    assert sweep_place(left_out, {})[1] is None
    assert _new_sweep_dir().parent == tmp_path / "home" / RUNS_DIR


# ---- one writer, and what a resume begins with ----


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of 1,000 timesteps of 2,000, with its own settings in config.json."""
    path = tmp_path / "run"
    save_checkpoint(path, 1_000)
    (path / "config.json").write_text(settings(path).model_dump_json())
    return path


def settings(run_dir: Path, **run: object) -> Config:
    values = {"run_dir": str(run_dir), "total_timesteps": 2_000} | run
    return Config.model_validate({"run": values})


def save_checkpoint(
    run_dir: Path, timestep: int, *, has_config: bool = True, **run: object
) -> Path:
    config = settings(run_dir, **run)
    files = {"progress.json": Progress().to_json().encode()}
    if has_config:
        files["config.json"] = config.model_dump_json().encode()
    info = {"model": config.model.model_dump_json()}
    return checkpoint.save(run_dir / "checkpoints", timestep, files, info)


def content(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def refusal(config: Config, *, force: bool = False) -> str:
    """The message of a start that is refused."""
    with pytest.raises(UserError) as refused, claimed_start(config, force=force):
        pass
    return str(refused.value)


@pytest.mark.parametrize("resume", [None, "latest"])
@pytest.mark.parametrize("force", [False, True])
def test_a_run_that_is_going_on_is_refused_and_untouched(
    run_dir: Path, resume: str | None, force: bool
) -> None:
    with run_lock(run_dir):
        before = content(run_dir)
        told = refusal(settings(run_dir, resume=resume), force=force)
        assert content(run_dir) == before
    assert f"process {os.getpid()} on {socket.gethostname()}" in told
    assert "\n" not in told


def test_a_start_is_the_only_writer_until_its_block_ends(run_dir: Path) -> None:
    resumed = settings(run_dir, resume="latest")
    with claimed_start(resumed) as start:
        assert start.resumed_timestep == 1_000
        assert start.former_config == (run_dir / "config.json").read_bytes()
        assert "going on there" in refusal(resumed)
    with claimed_start(resumed):
        pass


@pytest.mark.parametrize(("name", "content"), [("events.jsonl", b""), ("other", None)])
def test_settings_are_lost_only_where_a_session_has_begun(
    run_dir: Path, name: str, content: bytes | None
) -> None:
    """A trial's new directory has a checkpoint of another trial, and nothing else."""
    (run_dir / "config.json").rename(run_dir / name)
    with claimed_start(settings(run_dir, resume="latest")) as start:
        assert start.former_config == content


def test_a_resume_at_a_uri_waits_until_the_killed_run_is_saved_in_its_local_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"file://{tmp_path}/at"
    copy = local_copy(uri)
    save_checkpoint(copy, 1_000)
    with being_saved(copy) as end_saving:

        def told(text: str) -> None:
            assert "waiting until" in text
            save_checkpoint(copy, 1_500)
            end_saving()

        run = {"run_dir": uri, "resume": "latest", "total_timesteps": 2_000}
        with claimed_start(Config.model_validate({"run": run}), say=told) as start:
            assert start.resumed_timestep == 1_500


@pytest.mark.parametrize("kind", ["named", "newest", "by its path", "uri"])
def test_a_resume_that_waits_starts_from_the_settings_that_are_then_saved(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The killed session had other settings than the one before, which has the checkpoint."""
    monkeypatch.chdir(tmp_path)
    uri = f"file://{tmp_path}/at"
    place = local_copy(uri) if kind == "uri" else Path(RUNS_DIR, "a")
    save_checkpoint(place, 1_000)
    (place / "config.json").write_text(settings(place).model_dump_json())
    given = {
        "named": ["--resume", "latest", "--run-dir", str(place)],
        "newest": ["--resume", "latest"],
        "by its path": ["--resume", str(place)],
        "uri": ["--resume", "latest", "--run-dir", uri],
    }[kind]
    said: list[str] = []
    with being_saved(place) as end_saving:

        def told(text: str) -> None:
            said.append(text)
            save_checkpoint(place, 1_500, total_timesteps=5_000)
            end_saving()

        monkeypatch.setattr(cli, "_say", told)
        config = cli._resolve_training(parse_arguments(["train", *given]))
    assert said == [f"{place}: waiting until what its process had learned is saved"]
    assert config.run.total_timesteps == 5_000
    with claimed_start(config) as start:
        assert start.resumed_timestep == 1_500


def test_a_checkpoint_that_is_named_is_not_waited_for(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_say", pytest.fail)
    step = str(run_dir / "checkpoints" / "step-000000001000")
    with being_saved(run_dir):
        config = cli._resolve_training(parse_arguments(["train", "--resume", step]))
    assert config.run.total_timesteps == 2_000


@pytest.mark.parametrize(("given", "expected"), [([], "/pre"), (["run.init_from=/b"], "/b")])
def test_a_resume_with_other_settings_keeps_the_network_that_the_run_began_with(
    given: list[str], expected: str, tmp_path: Path
) -> None:
    """`kl_start_coef` is refused without one, and `--init-from` beside `--resume`."""
    save_checkpoint(tmp_path / "run", 1_000, init_from="/pre")
    file = tmp_path / "a.yaml"
    file.write_text("learner: {kl_start_coef: 0.1}")
    words = ["train", "--resume", "latest", "--run-dir", str(tmp_path / "run")]
    sets = [word for text in given for word in ("--set", text)]
    config = cli._resolve_training(parse_arguments([*words, "--config", str(file), *sets]))
    assert (config.run.init_from, config.learner.kl_start_coef) == (expected, 0.1)


def test_a_caller_may_hold_the_lock_itself(run_dir: Path) -> None:
    with run_lock(run_dir) as lock, claimed_start(settings(run_dir, resume="latest"), lock=lock):
        pass


def test_a_smaller_length_is_refused_before_anything_is_written(run_dir: Path) -> None:
    before = content(run_dir)
    told = refusal(settings(run_dir, resume="latest", total_timesteps=500))
    assert "run.total_timesteps = 500" in told
    assert content(run_dir) == before


def test_a_directory_that_is_refused_is_not_left_behind(tmp_path: Path) -> None:
    for resume in ("latest", str(tmp_path / "nowhere")):
        refusal(settings(tmp_path / "new", resume=resume))
    with pytest.raises(RunDirError), claimed_start(settings(tmp_path / "new")):
        raise RunDirError("a later check")
    assert list(tmp_path.iterdir()) == []


class _StandingClock(datetime):
    """A clock on which all runs start in the same second."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(2026, 11, 29, 12, tzinfo=tz)


@pytest.fixture
def _looks_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes each directory just after this one has looked whether it exists."""
    monkeypatch.setattr(Path, "exists", lambda path, **how: False)


@pytest.mark.usefixtures("_looks_too_early")
def test_runs_that_start_at_once_get_a_directory_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_dirs, "datetime", _StandingClock)
    with claimed_start(with_run_dir(None)) as first, claimed_start(with_run_dir(None)) as second:
        assert first.run_dir == Path(RUNS_DIR, "20261129-120000")
        assert second.run_dir == Path(RUNS_DIR, "20261129-120000-1")
        assert first.run_dir.is_dir()


@pytest.mark.usefixtures("_looks_too_early")
def test_a_directory_that_another_process_has_made_is_not_removed(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    with run_lock(new):
        assert "going on there" in refusal(settings(new))
        assert [path.name for path in new.iterdir()] == [".lock"]


def test_a_directory_that_another_process_locks_first_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    with contextlib.ExitStack() as other:

        def locked_too_late(run_dir: Path, **how: Any) -> contextlib.AbstractContextManager[Any]:
            other.enter_context(run_lock(run_dir))
            return run_lock(run_dir, **how)

        monkeypatch.setattr(run_start, "run_lock", locked_too_late)
        assert "going on there" in refusal(settings(new))
        assert [path.name for path in new.iterdir()] == [".lock"]


def test_a_directory_is_removed_while_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the lock is free, another process may have begun there."""
    new = tmp_path / "new"
    removed: list[str] = []

    def remove(run_dir: Path, ignore_errors: bool) -> None:
        with pytest.raises(RunDirError, match="going on there"):
            run_lock(run_dir).__enter__()
        removed.append(run_dir.name)

    monkeypatch.setattr(shutil, "rmtree", remove)
    with pytest.raises(RunDirError, match="a later check"), claimed_start(settings(new)):
        raise RunDirError("a later check")
    assert removed == ["new"]


def test_what_is_saved_after_a_new_run_lost_its_directory_stays(tmp_path: Path) -> None:
    new = tmp_path / "new"

    def lose() -> None:
        shutil.rmtree(new)
        save_checkpoint(new, 1_500)
        raise RunDirLostError("deleted", new)

    with pytest.raises(RunDirLostError), claimed_start(settings(new)):
        lose()
    assert checkpoint.newest(new / "checkpoints") is not None


def test_what_another_puts_in_the_place_of_a_moved_run_stays(tmp_path: Path) -> None:
    new = tmp_path / "new"

    def move() -> None:
        new.rename(tmp_path / "moved")
        new.mkdir()
        (new / "notes").write_text("x")
        raise RunDirLostError("moved", tmp_path / "moved")

    with pytest.raises(RunDirLostError), claimed_start(settings(new)):
        move()
    assert (new / "notes").read_text() == "x"


def resumed_place(*arguments: str) -> tuple[Path, int | None]:
    """The directory and the timestep with which a command line goes on."""
    config = cli._resolve_training(parse_arguments(["train", *arguments]))
    with claimed_start(config) as start:
        return start.run_dir, start.resumed_timestep


@pytest.fixture
def saved_in_runs(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/a`, whose settings name it relative to the working directory, as runs do."""
    monkeypatch.chdir(run_dir.parent)
    place = Path(RUNS_DIR, "a")
    for timestep in (1_000, 1_500):
        save_checkpoint(place, timestep)
    (place / "config.json").write_text(settings(place).model_dump_json())
    return place


def test_a_moved_run_is_resumed_where_it_is(saved_in_runs: Path) -> None:
    moved = saved_in_runs.rename(saved_in_runs.parent / "b")
    assert resumed_place("--resume", "latest") == (moved, 1_500)
    first = moved / "checkpoints" / "step-000000001000"
    assert resumed_place("--resume", str(first)) == (moved, 1_000)
    assert not saved_in_runs.exists()


def test_a_copy_of_a_run_is_resumed_and_not_the_run(saved_in_runs: Path) -> None:
    copy = saved_in_runs.parent / "b"
    shutil.copytree(saved_in_runs, copy)
    shutil.rmtree(saved_in_runs / "checkpoints" / "step-000000001500")
    os.utime(copy / "config.json", (2e9, 2e9))
    assert resumed_place("--resume", "latest") == (copy, 1_500)
    step = copy / "checkpoints" / "step-000000001500"
    assert resumed_place("--resume", str(step)) == (copy, 1_500)


def test_a_checkpoint_is_resumed_from_another_working_directory(
    saved_in_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved_in_runs.absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resumed_place("--resume", str(run / "checkpoints" / "step-000000001500")) == (run, 1_500)
    assert list(Path().iterdir()) == []


def test_a_directory_that_is_given_goes_over_that_of_the_checkpoint(saved_in_runs: Path) -> None:
    step = str(saved_in_runs / "checkpoints" / "step-000000001000")
    given = ("--resume", step, "--set", f"run.run_dir={saved_in_runs}")
    assert resumed_place(*given) == (saved_in_runs, 1_000)
    shutil.copytree(saved_in_runs, "runs/b")
    with pytest.raises(RunDirError, match="already holds a run"):
        resumed_place("--resume", step, "--run-dir", "runs/b")


def test_a_run_keeps_the_one_checkpoint_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start_of = Path(RUNS_DIR, "first")
    save_untrained(start_of, timestep=1_000)
    (start_of / "config.json").write_text("{}")
    for named in ("latest", str(start_of)):
        config = tiny_config(run={"init_from": named, "run_dir": str(tmp_path / named[-5:])})
        with claimed_start(config) as start:
            kept = start.config.run.init_from
            assert start.initial is not None
            assert kept == str(start.initial.path.absolute())


def test_a_resumed_run_does_not_guess_the_network_that_it_is_pulled_to(run_dir: Path) -> None:
    pull = {"learner": {"kl_start_coef": 0.1}, "run": {"init_from": "latest", "resume": "latest"}}
    values = settings(run_dir).model_dump()
    for section, given in pull.items():
        values[section] |= given
    assert "--set run.init_from=PATH" in refusal(Config.model_validate(values))


def test_a_resume_starts_from_the_settings_in_the_checkpoint(run_dir: Path) -> None:
    expected = run_dir / "checkpoints" / "step-000000001000" / "config.json"
    (run_dir / "config.json").write_text("{")
    assert saved_settings(str(run_dir), "latest") == expected
    assert saved_settings(None, str(expected.parent)) == expected
    (run_dir / "config.json").unlink()
    assert saved_settings(str(run_dir), "latest") == expected


def test_settings_of_a_damaged_checkpoint_are_passed_over(run_dir: Path) -> None:
    damaged = save_checkpoint(run_dir, 1_500)
    (damaged / "progress.json").write_bytes(b"x")
    found = saved_settings(str(run_dir), "latest")
    assert found == run_dir / "checkpoints" / "step-000000001000" / "config.json"


def test_a_checkpoint_without_settings_is_resumed_with_those_of_the_run(run_dir: Path) -> None:
    save_checkpoint(run_dir, 1_500, has_config=False)
    assert saved_settings(str(run_dir), "latest") == run_dir / "config.json"
    with claimed_start(settings(run_dir, resume="latest")) as start:
        assert start.resumed_timestep == 1_500


def test_a_run_whose_settings_are_lost_is_found_by_its_events(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_dir.parent)
    Path(RUNS_DIR).mkdir()
    run_dir.rename(Path(RUNS_DIR) / "a")
    (Path(RUNS_DIR) / "a" / "config.json").rename(Path(RUNS_DIR) / "a" / "events.jsonl")
    found = choose_run_dir(Config.model_validate({"run": {"resume": "latest"}}))
    assert found == Path(RUNS_DIR) / "a"


# ---- checkpoints that verify and cannot be gone on from ----


def save_weights(run_dir: Path, timestep: int, value: float) -> Path:
    """A checkpoint with one weight."""
    path = save_checkpoint(run_dir, timestep)
    found = checkpoint.load(path)
    model = safetensors.numpy.save({"head": np.array([value], np.float32)})
    return checkpoint.save(path.parent, timestep, found.files | {"model.safetensors": model},
                           found.info)  # fmt: skip


def test_the_latest_checkpoint_is_the_newest_with_finite_weights(run_dir: Path) -> None:
    save_weights(run_dir, 1_100, 0.5)
    passed_over = [save_weights(run_dir, timestep, np.nan) for timestep in (1_200, 1_300)]
    with claimed_start(settings(run_dir, resume="latest")) as start:
        assert start.resumed_timestep == 1_100
    told = [notice.message for notice in start.notices]
    for text, path in zip(told, reversed(passed_over), strict=True):
        assert text.startswith(f"checkpoint {path} skipped: model.safetensors: the weights 'head'")
    assert {notice.level for notice in start.notices} == {"WARNING"}
    expected = run_dir / "checkpoints" / "step-000000001100" / "config.json"
    assert saved_settings(str(run_dir), "latest") == expected


def test_a_checkpoint_that_is_named_and_not_finite_is_refused_in_one_line(run_dir: Path) -> None:
    path = save_weights(run_dir, 1_200, np.inf)
    told = refusal(settings(run_dir, resume=str(path)))
    assert "the weights 'head' are not finite" in told
    assert "\n" not in told


def test_a_run_without_a_finite_checkpoint_is_refused_and_says_why(run_dir: Path) -> None:
    for timestep in (1_000, 1_100):
        save_weights(run_dir, timestep, np.nan)
    before = content(run_dir)
    told = refusal(settings(run_dir, resume="latest"))
    assert "has no intact checkpoint (2 damaged or not finite)" in told
    assert told.endswith("Use an older checkpoint.")
    assert content(run_dir) == before


def test_checkpoints_that_the_learner_has_refused_are_passed_over(run_dir: Path) -> None:
    save_weights(run_dir, 1_100, 0.5)
    save_weights(run_dir, 1_200, 0.5)
    with claimed_start(settings(run_dir, resume="latest"), refused={1_200: "its cause"}) as start:
        assert start.resumed_timestep == 1_100
    (notice,) = start.notices
    assert notice.message.endswith("step-000000001200 skipped: its cause")


@pytest.mark.parametrize("number", SYSTEM_ERRORS)
def test_a_newest_checkpoint_that_cannot_be_read_is_not_passed_over(
    number: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be set aside, and its records cut, though it may be intact."""
    newest = save_checkpoint(run_dir, 1_200)
    before = content(run_dir)
    with monkeypatch.context() as patch:
        refuse_reading(patch, newest / "progress.json", number)
        told = refusal(settings(run_dir, resume="latest"))
        with pytest.raises(UnreadableCheckpointError):
            saved_settings(str(run_dir), "latest")
        older = newest.with_name("step-000000001000")
        with claimed_start(settings(run_dir, resume=str(older))) as start:
            assert start.resumed_timestep == 1_000
    assert content(run_dir) == before
    assert f"cannot read {newest / 'progress.json'}: {os.strerror(number)}." in told
    assert "\n" not in told
    with claimed_start(settings(run_dir, resume="latest")) as start:
        assert start.resumed_timestep == 1_200


def test_a_run_that_is_resumed_elsewhere_by_its_directory_is_not_gone_back_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for timestep in (100, 200):
        newest = save_untrained(tmp_path / "run", timestep=timestep)
    refuse_reading(monkeypatch, newest / "manifest.json")
    given = ("--resume", str(tmp_path / "run"), "--run-dir", str(tmp_path / "other"))
    with pytest.raises(UnreadableCheckpointError, match=newest.name):
        cli._resolve_training(parse_arguments(["train", *given]))


def test_a_resume_of_weights_that_are_not_healthy_names_the_newest_that_are(run_dir: Path) -> None:
    saved = checkpoint.load(save_checkpoint(run_dir, 1_100))
    for timestep in (1_200, 1_300):
        checkpoint.save(saved.path.parent, timestep, saved.files,
                        saved.info | {"health": "diverging: kl_proximal 9"})  # fmt: skip
    with claimed_start(settings(run_dir, resume="latest")) as start:
        assert start.resumed_timestep == 1_300
    (notice,) = start.notices
    assert (notice.level, notice.message) == (
        "WARNING",
        f"{run_dir}/checkpoints/step-000000001300 is not healthy (diverging: kl_proximal 9); the "
        f"newest healthy checkpoint: --resume {run_dir}/checkpoints/step-000000001100",
    )
    with claimed_start(settings(run_dir, resume=str(saved.path))) as start:
        assert start.notices == ()


def test_a_run_is_resumed_by_its_directory_as_it_is_measured_by_it(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "first"
    save_untrained(run_dir, timestep=100, seed=1)
    config = cli._resolve_training(parse_arguments(["--resume", str(run_dir)]))
    assert (config.run.run_dir, config.run.resume) == (str(run_dir), "latest")
    other = str(tmp_path / "other")
    config = cli._resolve_training(parse_arguments(["--resume", str(run_dir), "--run-dir", other]))
    assert config.run.run_dir == other
    assert Path(str(config.run.resume)).parent == run_dir / "checkpoints"
