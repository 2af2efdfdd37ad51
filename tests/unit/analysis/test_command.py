"""The command `analyze`: a checkpoint's opinion as text and as files, and what it refuses."""

import json
from pathlib import Path

import pytest

from keisei_ray.analysis.command import AnalyzeOptions, analyze
from keisei_ray.cli import main
from keisei_ray.errors import CheckpointError, ConfigError
from keisei_ray.shogi.record_reader import read_kif
from tests.helpers.consoles import plain_console, written
from tests.helpers.program import one_line
from tests.helpers.saved_runs import save_untrained

KIF = (
    "手合割：平手\n先手：太郎\n手数----指手--\n*old\n   1 ７六歩(77)\n   2 ３四歩(33)\n   3 投了\n"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_untrained(tmp_path_factory.mktemp("run"), timestep=7, weights_version=2))


def test_a_game_is_shown_and_written_in_every_form(
    tmp_path: Path,
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("game.kif").write_bytes(KIF.encode("cp932"))
    typed = ["analyze", "--checkpoint", checkpoint, "game.kif", "--simulations", "6"]
    assert main([*typed, "--json", "g.json", "--kif", "g.kif", "--html", "g.html"]) == 0
    shown = capsys.readouterr().out
    assert "step-000000000007 with 6 simulations a position." in shown
    assert "White wins by resignation. 2 moves." in shown
    assert "    2  White  P-3d" in shown
    assert "Black's winning chance, a draw counting half:" in shown
    saved = json.loads(Path("g.json").read_text())
    assert (saved["timestep"], saved["weights_version"], saved["simulations"]) == (7, 2, 6)
    assert saved["game"]["moves"] == ["7g7f", "3c3d"]
    assert [position["visits"] for position in saved["game"]["positions"]] == [6, 6, 6]
    text = Path("g.kif").read_bytes().decode("cp932")
    assert read_kif(text).moves == ("7g7f", "3c3d")
    assert text.count("*#評価値=") == 3
    assert "*old\n" in text
    assert "太郎 - White" in Path("g.html").read_text(encoding="utf-8")


def test_positions_are_shown_in_the_order_given(tmp_path: Path, checkpoint: str) -> None:
    page = tmp_path / "p.html"
    sfens = ["startpos moves 7g7f", "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"]
    console = plain_console()
    options = AnalyzeOptions(checkpoint, sfens=sfens, simulations=4, html=page)
    result = analyze(options, console)
    assert [p["side_to_move"] for p in result["positions"]] == ["white", "black"]
    assert result["positions"][1]["proof"] == "won"
    shown = written(console)
    assert shown.index("White to move.") < shown.index("Black to move.")
    assert "wins by force" in shown
    assert "Position 2" in page.read_text(encoding="utf-8")


def test_a_game_is_analyzed_up_to_its_fault(tmp_path: Path, checkpoint: str) -> None:
    game = tmp_path / "game.kif"
    game.write_text(KIF.replace("３四歩(33)", "３四歩(77)"), encoding="utf-8")
    console = plain_console()
    out = tmp_path / "out.kifu"
    result = analyze(AnalyzeOptions(checkpoint, str(game), simulations=0, kif=out), console)
    fault = "line 6: move 2 '３四歩(77)' is not legal"
    assert (result["game"]["moves"], result["game"]["fault"]) == (["7g7f"], fault)
    assert f"The analysis ends here: {fault}." in written(console)
    assert read_kif(out.read_text(encoding="utf-8")).moves == ("7g7f",)


def test_the_kif_file_of_one_game_of_several_is_replaced(tmp_path: Path, checkpoint: str) -> None:
    games = tmp_path / "games.usi"
    games.write_text("startpos moves 7g7f\nstartpos moves 2g2f 8c8d\n")
    out = tmp_path / "out.kifu"
    for number, moves in ((1, ("7g7f",)), (2, ("2g2f", "8c8d"))):
        typed = AnalyzeOptions(checkpoint, f"{games}:{number}", simulations=0, kif=out)
        analyze(typed, plain_console())
        assert read_kif(out.read_text(encoding="utf-8")).moves == moves


def test_the_newest_run_is_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_untrained(tmp_path / "runs" / "first", timestep=7)
    (tmp_path / "runs" / "first" / "config.json").write_text("{}")
    typed = ["analyze", "--checkpoint", "latest", "--sfen", "startpos", "--simulations", "0"]
    assert main([*typed, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"].endswith("step-000000000007")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "expected a game's file, or positions"),
        ({"game": "game.kif", "sfens": ["startpos"]}, "expected a game's file, or positions"),
        ({"sfens": ["startpos"], "kif": "x.kif"}, "expected a game's file, not --sfen"),
        ({"game": "game.kif", "kif": "x.txt"}, "ends in .kifu"),
        ({"game": "game.kif", "kif": "none/x.kif"}, "not a file in a directory"),
        ({"game": "game.kif", "kif": "game.kif"}, "is the game itself"),
        ({"game": "game.kif", "html": "none/x.html"}, "--html none/x.html: not a file"),
        ({"game": "game.kif", "html": "game.kif"}, "--html game.kif: exists and is not a page"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("game.kif").write_text(KIF, encoding="utf-8")
    paths = {k: Path(str(v)) if k in ("kif", "html") else v for k, v in fields.items()}
    with pytest.raises(ConfigError, match=what):
        analyze(AnalyzeOptions("none", **paths), plain_console())  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", ["--json", "--html", "--kif"])
def test_a_directory_that_is_missing_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("game.kif").write_text(KIF, encoding="utf-8")
    assert main(["analyze", "--checkpoint", "none", "game.kif", flag, "gone/x.kif"]) == 2
    what = f"{flag} gone/x.kif: not a file in a directory that can be written"
    assert what in one_line(capsys.readouterr().err)
    assert not Path("gone").exists()


def test_a_checkpoint_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        analyze(AnalyzeOptions(str(tmp_path / "none"), sfens=["startpos"]), plain_console())
    damaged = save_untrained(tmp_path, timestep=7)
    next(file for file in damaged.iterdir() if "model" in file.name).write_bytes(b"x")
    with pytest.raises(CheckpointError):
        analyze(AnalyzeOptions(str(damaged), sfens=["startpos"]), plain_console())


def test_a_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "--checkpoint", "none", "--sfen", "4k4/9/9/9/9/9/9/9/9 b - 1"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert "king" in one_line(errors).lower()
