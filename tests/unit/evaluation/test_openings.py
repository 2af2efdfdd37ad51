"""Matches from a book of openings: the format of a book, and the games that start from it."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import cshogi
import pytest
from cshogi import CSA
from rich.console import Console
from rsshogi.core import Board, Move
from rsshogi.record import Record

from keisei_ray.cli import main
from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.command import EvaluateOptions, evaluate
from keisei_ray.evaluation.ladder import LadderOptions, ladder
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, play_match
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.players.player import Player
from keisei_ray.players.policies import choose_greedy, choose_random
from keisei_ray.shogi.game import STANDARD_SFEN, Opening
from keisei_ray.shogi.opening_line import parse_opening

RANDOM = Player("random", choose_random)
GREEDY = Player("greedy", choose_greedy)
NO_BISHOPS = "lnsgkgsnl/1r7/ppppppppp/9/9/9/PPPPPPPPP/7R1/LNSGKGSNL b - 1"
WHITE_FIRST = "lnsgkgsnl/1r5b1/ppppppppp/9/9/2P6/PP1PPPPPP/1B5R1/LNSGKGSNL w - 2"
LINES = (
    "startpos moves 7g7f 3c3d",
    "startpos moves 2g2f",
    f"sfen {NO_BISHOPS} moves 2g2f 8c8d 2f2e",
    WHITE_FIRST,
    "startpos",
)
SHUFFLE = "2h3h 8b7b 3h2h 7b8b"
MATE_SFEN = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"


def book(tmp_path: Path, *lines: str, name: str = "book.txt", max_plies: int = 60) -> OpeningBook:
    return OpeningBook.read(book_file(tmp_path, *lines, name=name), max_plies=max_plies)


def book_file(tmp_path: Path, *lines: str, name: str = "book.txt") -> Path:
    file = tmp_path / name
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def play(
    openings: OpeningBook,
    num_games: int,
    players: tuple[Player, Player] = (RANDOM, GREEDY),
    *,
    streams: tuple[int, int] = (0, 1),
    **settings: Any,
) -> list[PlayedGame]:
    match = MatchSettings(num_games, book=openings, **{"seed": 3, "max_plies": 60} | settings)
    return sorted(play_match(players, match, streams=streams), key=lambda game: game.index)


def opening_of(game: PlayedGame) -> Opening:
    """Returns the opening that a game says it started from."""
    moves = game.moves.split()[: game.opening_plies]
    return Opening(game.start_sfen or STANDARD_SFEN, " ".join(moves))


# Format of a book


@pytest.mark.parametrize(
    ("line", "sfen", "moves"),
    [
        ("startpos", STANDARD_SFEN, ""),
        ("startpos moves", STANDARD_SFEN, ""),
        ("startpos moves 7g7f 3c3d", STANDARD_SFEN, "7g7f 3c3d"),
        ("position startpos moves 7g7f", STANDARD_SFEN, "7g7f"),
        (f"sfen {NO_BISHOPS}", NO_BISHOPS, ""),
        (f"sfen {NO_BISHOPS} moves 2g2f", NO_BISHOPS, "2g2f"),
        (f"position sfen {NO_BISHOPS} moves 2g2f", NO_BISHOPS, "2g2f"),
        (WHITE_FIRST, WHITE_FIRST, ""),
        (f"position {WHITE_FIRST}", WHITE_FIRST, ""),
        (f"{NO_BISHOPS}  moves\t2g2f ", NO_BISHOPS, "2g2f"),
        (NO_BISHOPS.removesuffix(" 1"), NO_BISHOPS, ""),
    ],
)
def test_every_format_is_read(line: str, sfen: str, moves: str) -> None:
    assert parse_opening(line) == Opening(sfen, moves)


def test_blank_lines_comments_and_the_marks_of_other_systems_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_bytes("\ufeff# 将棋\r\n\r\nstartpos moves 7g7f\r\n  # no\r\nstartpos".encode())
    found = OpeningBook.read(file, max_plies=60)
    assert found.openings == (Opening(STANDARD_SFEN, "7g7f"), Opening(STANDARD_SFEN))
    assert found.name == "book.txt"
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_lines_that_lead_to_one_position_are_one_opening(tmp_path: Path) -> None:
    found = book(
        tmp_path,
        "startpos moves 7g7f 3c3d 2g2f",
        "startpos moves 2g2f 3c3d 7g7f",
        "startpos",
        f"startpos moves {SHUFFLE}",
        STANDARD_SFEN.replace(" 1", " 9"),
    )
    assert found.openings == (Opening(STANDARD_SFEN, "7g7f 3c3d 2g2f"), Opening(STANDARD_SFEN))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "book.txt: holds no opening"),
        (b"\n# startpos\n", "book.txt: holds no opening"),
        ("startpos\n# 将棋\n".encode("shift_jis"), "book.txt, line 2: byte 0x8f is not UTF-8"),
        (b"\xef\xbb\xbf\n\n\xff", "book.txt, line 3: byte 0xff is not UTF-8"),
        (b"startpos\n\nstartpos moves 7g7e", r"book.txt, line 3: move '7g7e' (ply 1) cannot be"),
        (b"startpos moves 7g7f 7g7f", "line 1: move '7g7f' (ply 2) cannot be played in"),
        (b"startpos moves P-7f", "line 1: move 'P-7f' (ply 1) cannot be played"),
        (b"startpos 7g7f", "line 1: 'startpos 7g7f' is no opening. Expected 'startpos moves"),
        (b"moves 7g7f", "is no opening"),
        (b"position", "is no opening"),
        (b"not an opening", "line 1: 'not an opening' is no opening"),
        (b"x" * 99, "line 1: '" + "x" * 60 + "...' is no opening"),
        (f"{NO_BISHOPS} 2g2f".encode(), "is no opening"),
        (b"sfen 9/9/9/9/9/9/9/9/k8x b - 1", "is not an SFEN"),
        (b"sfen 9/9/9/9/9/9/9/9/K8 b - 1", "White king is missing"),
        (b"4k4/9/9/9/9/9/9/9/4K4 b P 65535", "the move number is 65535. Expected at most 10000."),
        (b"4k4/4G4/4P4/9/9/9/9/9/4K4 w - 1", "is mated. Expected a game still to be played"),
        (f"{MATE_SFEN} moves G*5b".encode(), "line 1: these moves end the game: mate at ply 1"),
        (f"{MATE_SFEN} moves G*5b 5a4a".encode(), "'5a4a' (ply 2) comes after the end of the game"),
        (f"startpos moves {SHUFFLE} {SHUFFLE} {SHUFFLE}".encode(), "repetition at ply 12"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "ladder"])
def test_a_bad_book_is_one_line_and_exit_2(
    command: str, content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "book.txt"
    file.write_bytes(content)
    who = {"evaluate": "--player random --opponent random", "ladder": "--players random greedy"}
    assert main([command, *who[command].split(), "--games", "2", "--openings", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ConfigError: --openings {file}")
    assert says in line
    assert line.endswith(".")


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_a_book_that_cannot_be_read_is_one_line_and_exit_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    arguments = ["--player", "random", "--opponent", "random", "--openings", str(file)]
    assert main(["evaluate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--openings {file}: cannot be read" in line


@pytest.mark.parametrize("moves", ["7g7f 3c3d", "7g7f 3c3d 2g2f"])
def test_an_opening_as_long_as_the_ply_cap_is_refused(moves: str, tmp_path: Path) -> None:
    assert book(tmp_path, f"startpos moves {moves}", max_plies=4).openings
    with pytest.raises(ConfigError, match=r"line 1: .*max_plies"):
        book(tmp_path, f"startpos moves {moves}", max_plies=2)


# Games from a book


def test_each_opening_is_played_from_both_colors_and_once_before_any_again(tmp_path: Path) -> None:
    openings = book(tmp_path, *LINES)
    games = play(openings, 4 * len(LINES))
    pairs = list(zip(games[::2], games[1::2], strict=True))
    for black, white in pairs:
        assert (black.is_black, white.is_black) == (True, False)
        assert opening_of(black) == opening_of(white)
    played = [opening_of(black) for black, _ in pairs]
    for round_of_all in (played[: len(LINES)], played[len(LINES) :]):
        assert sorted(round_of_all) == sorted(openings.openings)


def test_the_order_depends_on_the_seed_alone(tmp_path: Path) -> None:
    lines = [f"startpos moves {move.to_usi()}" for move in Board().legal_moves()]
    openings = book(tmp_path, *lines)

    def order(num_games: int, seed: int, *players: Player) -> list[Opening]:
        first, second = players or (RANDOM, GREEDY)
        games = play(openings, num_games, (first, second), seed=seed, max_plies=3)
        return [opening_of(game) for game in games[::2]]

    first = order(20, 1)
    assert first == order(20, 1)
    assert first == order(40, 1, GREEDY, GREEDY)[:10]
    assert first != order(20, 2)
    assert first != list(openings.openings[:10])


def test_games_show_their_start_and_every_move_of_the_opening(tmp_path: Path) -> None:
    line = "2g2f 8c8d 2f2e"
    games = play(book(tmp_path, f"sfen {NO_BISHOPS} moves {line}", "startpos moves 7g7f"), 4)
    for game in games:
        starts = {"": "7g7f", NO_BISHOPS: line}
        assert opening_of(game).moves == starts[game.start_sfen]
        board = Board(game.start_sfen or STANDARD_SFEN)
        for usi in game.moves.split():
            assert usi in {move.to_usi() for move in board.legal_moves()}
            board.apply_move(Move.from_usi(usi))
        assert len(game.moves.split()) == game.plies
    assert {game.start_sfen for game in games} == {"", NO_BISHOPS}


@pytest.mark.parametrize(
    ("first", "second"),
    [(RANDOM, GREEDY), (GREEDY, GREEDY)],
    ids=["random-greedy", "greedy-greedy"],
)
def test_swapped_players_swap_every_game_of_a_book(
    first: Player, second: Player, tmp_path: Path
) -> None:
    openings = book(tmp_path, *LINES, max_plies=160)
    games = play(openings, 14, (first, second), max_plies=160)
    swapped = play(openings, 14, (second, first), streams=(1, 0), max_plies=160)
    assert {game.outcome for game in games} & {"win", "loss"}
    for game in games:
        partner = swapped[game.index ^ 1]  # The other game of the pair.
        assert (partner.moves, partner.start_sfen) == (game.moves, game.start_sfen)
        assert partner.score == 1 - game.score


def test_repetition_and_the_ply_cap_count_the_plies_of_the_opening(tmp_path: Path) -> None:
    """The opening ends one ply before the start position occurs the fourth time."""
    almost = f"{SHUFFLE} {SHUFFLE} {SHUFFLE}".split()[:-1]
    openings = book(tmp_path, f"startpos moves {' '.join(almost)}")
    for game in play(openings, 2, (insisting_on("7b8b"), insisting_on("7b8b"))):
        assert (game.outcome, game.reason, game.plies) == ("draw", "repetition", 12)
    for game in play(openings, 2, (insisting_on("3c3d"), insisting_on("3c3d")), max_plies=12):
        assert (game.outcome, game.reason, game.plies) == ("truncated", "max_plies", 12)


def insisting_on(usi: str) -> Player:
    def choose(games: Any, lanes: Any, uniforms: Any) -> Any:
        return [games.find_move(lane, usi) for lane in lanes.tolist()]

    return Player(usi, choose)


# Commands with a book


def run_evaluate(**options: Any) -> tuple[dict[str, Any], str]:
    screen = io.StringIO()
    settings: dict[str, Any] = {"player": "random", "opponent": "greedy", "num_games": 4} | options
    result = evaluate(EvaluateOptions(**settings), Console(file=screen, width=200))
    return result, screen.getvalue()


def test_the_result_names_the_book_and_its_digest(tmp_path: Path) -> None:
    file = book_file(tmp_path, *LINES, name="a[b].txt")
    result, screen = run_evaluate(openings=file, num_games=2 * len(LINES))
    assert result["openings"] == "a[b].txt"
    assert result["openings_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result["random_opening_plies"] == 0
    assert f"openings of a[b].txt ({result['openings_sha256'][:16]})" in screen
    assert "repeat" not in screen
    without, _ = run_evaluate()
    assert without["random_opening_plies"] == 8
    assert "openings" not in without


def test_a_book_too_small_for_the_match_is_said_to_repeat(tmp_path: Path) -> None:
    file = book_file(tmp_path, "startpos", "startpos moves 7g7f", "startpos")
    says = "book.txt has 2 different openings for 3 pairs of games: they repeat"
    assert says in run_evaluate(openings=file, num_games=6)[1].splitlines()
    assert says in run_ladder(openings=file, num_games=6)[1].splitlines()


@pytest.mark.parametrize("line", [LINES[0], LINES[2], WHITE_FIRST])
def test_saved_games_begin_with_the_opening(line: str, tmp_path: Path) -> None:
    opening = parse_opening(line)
    records = tmp_path / "games"
    run_evaluate(openings=book_file(tmp_path, line), num_games=2, records=records)
    for index in (0, 1):
        kif, csa, usi = (
            (records / f"game-{index:06d}.{suffix}").read_text()
            for suffix in ("kifu", "csa", "usi")
        )
        plies = len(opening.moves.split())
        assert f"*{plies} opening plies of book.txt (pair 0)" in kif
        assert usi.startswith(f"position sfen {opening.sfen} moves {opening.moves}")
        ours = [Record.from_kif_str(kif), Record.from_csa_str(csa)]
        # cshogi's reader of KIF ignores the board diagram, so it is left out.
        theirs = CSA.Parser.parse_str(csa)[0]
        moves = [[entry.move.to_usi() for entry in record.moves] for record in ours]
        moves.append([cshogi.move_to_usi(move) for move in theirs.moves])
        assert moves == [usi.split(" moves ")[1].split()] * 3
        assert moves[0][:plies] == opening.moves.split()
        for record in ours:
            assert without_number(record.init_position_sfen) == without_number(opening.sfen)
        assert without_number(theirs.sfen) == without_number(opening.sfen)


def without_number(sfen: str) -> str:
    return " ".join(sfen.split()[:3])


def run_ladder(**changes: Any) -> tuple[dict[str, Any], str]:
    screen = io.StringIO()
    settings: dict[str, Any] = {
        "players": ["random", "greedy"],
        "run_dir": None,
        "finish_mates": False,
        "num_games": 2,
        "seed": 1,
        "max_plies": 20,
        "temperature": 0.0,
        "file": None,
    }
    content, _ = ladder(LadderOptions(**settings | changes), Console(file=screen, width=200))
    return content, screen.getvalue()


def test_a_ladder_goes_on_with_its_book_and_with_no_other(tmp_path: Path) -> None:
    file = tmp_path / "ladder.json"
    openings = book_file(tmp_path, "startpos moves 7g7f")
    first, _ = run_ladder(file=file, openings=openings)
    sha256 = hashlib.sha256(openings.read_bytes()).hexdigest()
    assert first["conditions"]["openings"] == "book.txt"
    assert first["conditions"]["openings_sha256"] == sha256
    assert run_ladder(file=file, openings=openings)[0] == first
    with pytest.raises(ConfigError, match=r" = 0, book\.txt, \w+, now 8, None, None"):
        run_ladder(file=file)
    openings.write_text("startpos moves 2g2f")
    with pytest.raises(ConfigError, match=f"openings_sha256 = {sha256}, now"):
        run_ladder(file=file, openings=openings)
    assert json.loads(file.read_text()) == first


def test_a_ladder_without_a_book_accepts_results_from_before_there_were_books(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ladder.json"
    first, _ = run_ladder()
    conditions = {
        "games": 2,
        "seed": 1,
        "max_plies": 20,
        "random_opening_plies": 8,
        "temperature": 0.0,
    }
    file.write_text(json.dumps(first | {"conditions": conditions}))
    assert run_ladder(file=file)[0] == first
    with pytest.raises(ConfigError, match=r"now 0, book\.txt"):
        run_ladder(file=file, openings=book_file(tmp_path, "startpos"))
