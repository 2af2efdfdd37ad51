"""The command `checkpoints`: what it lists of a run's directory, and what it finds by reading."""

import json
import os
from pathlib import Path

import pytest

from keisei_ray.cli import main
from keisei_ray.status.checkpoints import list_checkpoints, size_text
from keisei_ray.storage import checkpoint
from keisei_ray.storage.superseded import set_newer_aside

NOW_S = 2e9
FILES = {"model.safetensors": bytes(1000), "learner.pt": bytes(200)}


def rated(name: str, elo: float | None) -> dict[str, object]:
    return {"name": name, "elo": elo, "low": elo, "high": elo, "games": 64, "timestep": 1000}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with checkpoints of versions 1 to 3, the second of which is rated."""
    run = tmp_path / "run"
    for version in (1, 2, 3):
        info: dict[str, str | int | float | bool | None] = {"weights_version": version}
        if version == 2:
            info["health"] = "healthy"
        path = checkpoint.save(run / "checkpoints", version * 1000, FILES, info)
        os.utime(path / "manifest.json", (NOW_S - 60 * version, NOW_S - 60 * version))
    (run / "config.json").write_text("{}")
    players = [rated("v2", 120.0), rated("v2+mate1", 300.0), rated("v3", None), rated("random", 0)]
    (run / "ratings.json").write_text(json.dumps({"players": players}))
    return run


def test_each_checkpoint_is_listed_with_what_is_known_of_it(run_dir: Path) -> None:
    first, second, third = list_checkpoints(run_dir, NOW_S, verify=False)
    assert [(c.timestep, c.weights_version, c.age_s) for c in (first, second, third)] == [
        (1000, 1, 60.0), (2000, 2, 120.0), (3000, 3, 180.0)]  # fmt: skip
    assert second.rating is not None
    assert second.rating.elo == 120.0, "bare, not as it plays with every mate in one"
    assert first.rating is third.rating is None
    assert [c.health for c in (first, second, third)] == [None, "healthy", None]
    assert second.bytes == sum(p.stat().st_size for p in Path(second.path).iterdir()) > 1200


def test_only_verify_notices_a_changed_byte_and_it_ends_with_2(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = run_dir / "checkpoints" / "step-000000002000" / "learner.pt"
    damaged.write_bytes(b"\1" + bytes(199))
    assert main(["checkpoints", str(run_dir)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["CHECKPOINT", "TIMESTEP", "SIZE", "AGE", "HEALTH", "ELO", "VERDICT"]
    assert [line.split()[-1] for line in lines] == ["complete"] * 3
    assert "healthy  +120 +-0" in lines[1]
    assert main(["checkpoints", str(run_dir), "--verify"]) == 2
    said = capsys.readouterr()
    verdicts = [c.verdict for c in list_checkpoints(run_dir, NOW_S, verify=True)]
    assert [verdicts[0], verdicts[2]] == ["verified"] * 2
    assert verdicts[1].startswith("unusable: learner.pt: SHA-256 is")
    assert verdicts[1] in said.out
    assert said.err.startswith("CheckpointError: 1 of 3 checkpoints cannot be used")
    assert said.err.count("\n") == 1


def test_a_missing_byte_is_noticed_by_the_sizes_alone(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "step-000000003000" / "learner.pt").write_bytes(bytes(199))
    (run_dir / "checkpoints" / "step-000000001000" / "manifest.json").unlink()
    first, _, third = list_checkpoints(run_dir, NOW_S, verify=False)
    assert third.verdict == "unusable: learner.pt: 199 bytes, the manifest says 200: truncated?"
    assert first.verdict == "unusable: manifest.json is missing."
    assert (first.timestep, first.age_s, first.bytes) == (None, None, 1200)


def test_those_set_aside_by_a_resume_come_last_and_have_no_rating(run_dir: Path) -> None:
    set_newer_aside(run_dir / "checkpoints", 1000, on_renamed=lambda *_: None)
    checkpoint.save(run_dir / "checkpoints", 2500, FILES, {"weights_version": 2})
    listed = list_checkpoints(run_dir, NOW_S, verify=True)
    assert [Path(c.path).name for c in listed] == [
        "step-000000001000",
        "step-000000002500",
        "superseded-0-step-000000002000",
        "superseded-0-step-000000003000",
    ]
    assert [c.rating is not None for c in listed] == [False, True, False, False]
    assert {c.verdict for c in listed} == {"verified"}


def test_json_goes_to_a_file_or_instead_of_the_table(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run_dir.parent / "list.json"
    assert main(["checkpoints", "--run-dir", str(run_dir), "--json", str(file)]) == 0
    assert "step-000000003000" in capsys.readouterr().out
    assert main(["checkpoints", str(run_dir), "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads(file.read_text())
    assert [c["timestep"] for c in printed["checkpoints"]] == [1000, 2000, 3000]
    assert printed["checkpoints"][1]["rating"]["elo"] == 120.0
    assert written["checkpoints"][0]["verdict"] == "complete"


def test_control_characters_of_a_manifest_are_shown_as_escapes(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info: dict[str, str | int | float | bool | None] = {"health": "\x1b]0;title\x07[red]"}
    checkpoint.save(run_dir / "checkpoints", 4000, FILES, info)
    assert main(["checkpoints", str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert r"\x1b]0;title\x07[red]" in out
    assert "\x1b]0" not in out


def test_no_run_and_no_checkpoint_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for typed in ([], ["missing"], ["s3://bucket/run"]):
        assert main(["checkpoints", *typed]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.json").write_text("{}")
    assert main(["checkpoints"]) == 0
    assert capsys.readouterr().out == "runs/a has no checkpoint yet\n"


def test_sizes_have_the_unit_that_suits_them() -> None:
    sizes = [0, 999, 1000, 73_800, 999_960, 21_040_000, 5 * 10**15]
    assert [size_text(size) for size in sizes] == [
        "0 B", "999 B", "1.0 kB", "73.8 kB", "1.0 MB", "21.0 MB", "5000.0 TB"]  # fmt: skip
