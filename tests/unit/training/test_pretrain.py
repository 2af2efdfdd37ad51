"""The command `pretrain` before a run is started."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from keisei_ray.cli import EXIT_USAGE, main
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import ConfigError, RecordsError
from keisei_ray.records.files import Piece
from keisei_ray.shogi.game_record import GameRecord
from keisei_ray.training import pretrain as command
from keisei_ray.training.pretrain import DEFAULTS, _tell, check_usable, pretrain
from tests.helpers.record_corpus import csa_by_cshogi, hcpe_by_cshogi


def test_defaults_of_the_command_are_weaker_than_every_route() -> None:
    config = resolve_config(None, {}, ["learner.gamma=0.9"], {}, defaults=DEFAULTS)
    assert (config.learner.gamma, config.learner.num_epochs) == (0.9, 1)
    assert config.schedule.mode == "overlap"


def test_without_records_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="no records are named"):
        pretrain(Config(), Console(quiet=True))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_was_read_is_broken_at_blanks_on_a_terminal_only(is_terminal: bool) -> None:
    path = "/a/directory/with/a/long/name/of/games.psv"
    line = f"records read, pass 1: used: 107 games; left out: 302 games: duplicate (first: {path})"
    stream = io.StringIO()
    _tell(line, Console(file=stream, width=40, force_terminal=is_terminal))
    assert stream.getvalue().split() == line.split()
    assert ("\n  " in stream.getvalue()) == is_terminal


def test_records_with_something_usable_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "empty.csa").touch()
    hcpe_by_cshogi(tmp_path / "games.hcpe")
    check_usable(PretrainConfig(records=(str(tmp_path),)))


def test_records_without_are_refused_with_the_causes(tmp_path: Path) -> None:
    (tmp_path / "empty.csa").touch()
    (tmp_path / "binary.kif").write_bytes(bytes(range(256)))
    with pytest.raises(RecordsError, match=r"(?=.*1 files: empty)(?=.*1 games: neither UTF-8)"):
        check_usable(PretrainConfig(records=(str(tmp_path),)))


@pytest.mark.parametrize(
    ("games", "held_out", "readers", "told"),
    [
        (1, 1.0, 1, r"left out: 1 games: held out"),
        (1, 0.0, 2, r"left out: nothing.*self_play\.num_actors=1"),
        (1, 0.0, 1, None),
        (9, 0.0, 2, None),
    ],
)
def test_every_reader_must_find_something_to_learn_from(
    games: int, held_out: float, readers: int, told: str | None, tmp_path: Path
) -> None:
    csa_by_cshogi(tmp_path / "games.csa", games=games)
    config = PretrainConfig(records=(str(tmp_path),), held_out=held_out)
    if told is None:
        check_usable(config, readers)
    else:
        with pytest.raises(RecordsError, match=told):
            check_usable(config, readers)


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_look_at_the_records_that_takes_long_is_said_in_one_line(
    is_slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_said = threading.Event()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            is_said.set()
            return super().write(text)

    def games(piece: Piece) -> Iterator[GameRecord]:
        assert is_said.wait(10)
        return iter(())

    if is_slow:
        monkeypatch.setattr(command, "SAID_AFTER_S", 0.0)
        monkeypatch.setattr(command, "read_games", games)
    csa_by_cshogi(tmp_path / "games.csa")
    config = Config(pretrain=PretrainConfig(records=(str(tmp_path),), held_out=1.0))
    screen = Screen()
    with pytest.raises(RecordsError, match="nothing to learn from"):
        pretrain(config, Console(file=screen))
    assert len(screen.getvalue().splitlines()) == is_slow


def test_a_run_of_pretrain_goes_on_as_one_by_the_command_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its records are looked at before Ray is started, and counted at its end."""
    (tmp_path / "a.csa").touch()
    settings = ["--set", f"pretrain.records=[{tmp_path}]", "--set", "self_play.num_actors=1"]
    assert main([*settings, "--run-dir", str(tmp_path / "run")]) == EXIT_USAGE
    assert "nothing to learn from; left out: 1 files: empty" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_line_refuses_them_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    (tmp_path / "a.csa").touch()
    arguments = ["pretrain", "--records", str(tmp_path), "--run-dir", str(run_dir)]
    assert main(arguments) == EXIT_USAGE
    told = capsys.readouterr().err.strip()
    assert told.startswith("RecordsError: --records ")
    assert "\n" not in told
    assert not run_dir.exists()
