"""Files of a match's games, read back by three programs of others."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rsshogi.core import Move
from rsshogi.record import Record

from keisei_ray.evaluation.game_files import GameFiles, KifEncoding
from keisei_ray.evaluation.matches import MatchSettings, Outcome, PlayedGame, play_match
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import choose_random
from keisei_ray.rollouts.finished_game import GameEndReason
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.rules import FORFEITS
from tests.helpers.record_readers import (
    ReadGame,
    has_tsshogi,
    read_by_cshogi,
    read_by_python_shogi,
    read_by_tsshogi,
)

NAMES = ("v120+mate1", "将棋 (usi)")
ARMY = "ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL w - 1"
HANDICAPS = [
    f"{rows}/{ARMY}"
    for rows in (
        "lnsgkgsn1/1r5b1",
        "1nsgkgsnl/1r5b1",
        "lnsgkgsnl/1r7",
        "lnsgkgsnl/7b1",
        "lnsgkgsn1/7b1",
        "lnsgkgsnl/9",
        "1nsgkgsn1/9",
        "2sgkgs2/9",
        "3gkg3/9",
        "4k4/9",
    )
]
"""The handicaps of which all readers know the names, from one lance to ten pieces."""
PAWNS_17 = "5gk2/9/9/9/9/9/9/9/4K4 b P17p 1"
WHITE_FIRST = "lnsgkgsnl/1r5b1/ppppppppp/9/9/2P6/PP1PPPPPP/1B5R1/LNSGKGSNL w - 2"


def played(
    moves: str, sfen: str = STANDARD_SFEN, forfeit: GameEndReason | None = None, cap: int = 500
) -> PlayedGame:
    """The game of these moves, ended by the rules or by a forfeit of the side to move."""
    game, verdict = Game(sfen, max_plies=cap), None
    for usi in moves.split():
        assert verdict is None
        verdict = game.play(Move.from_usi(usi).value)
    return finished(game, forfeit or (verdict.reason, verdict.reward))  # type: ignore[union-attr]


def random_game(sfen: str, seed: int, plies: int) -> PlayedGame:
    """A game of random moves in which the side to move resigns, unless it has ended before."""
    game, rng = Game(sfen, max_plies=500), np.random.default_rng(seed)
    for _ in range(plies):
        legal = np.frombuffer(game.legal, np.uint16)
        if verdict := game.play(int(rng.choice(legal))):
            return finished(game, (verdict.reason, verdict.reward))
    return finished(game, "resign")


def finished(game: Game, end: GameEndReason | tuple[GameEndReason, float]) -> PlayedGame:
    """The game as one of a match; the reward is the last mover's, as in `Verdict`."""
    reason, reward = end if isinstance(end, tuple) else (end, 1.0)
    black_has_won = (game.turn == 1) == (reward > 0)
    outcome: Outcome = "win" if black_has_won else "loss"
    if reward == 0:
        outcome = "truncated" if reason == "max_plies" else "draw"
    sfen = "" if game.sfen == STANDARD_SFEN else game.sfen
    return PlayedGame(
        0, True, outcome, reason, len(game.moves), 0, game.moves_usi(), start_sfen=sfen
    )


def all_games() -> list[PlayedGame]:
    """Games of a match, of every start and every ending, from both sides."""
    players = (open_player("greedy"), Player("r", choose_random))
    games = list(play_match(players, MatchSettings(6, seed=3)))
    games += [random_game(sfen, n, 40 + n) for n, sfen in enumerate(HANDICAPS)]
    games += [random_game(STANDARD_SFEN, 7, 200), random_game(WHITE_FIRST, 8, 61)]
    games += [
        # The bishop does not promote.
        played("7g7f 3c3d 8h2b 3a2b B*4e", forfeit="resign"),
        played("3c3d 2g2f", WHITE_FIRST, "resign"),
        played("G*5b", "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"),
        played("P*5e", PAWNS_17, "resign"),
        played("2h3h 8b7b 3h2h 7b8b " * 3),
        played("2h1h 1b2b 1h2h 2b1b " * 3, "9/8k/9/9/9/9/9/7R1/K8 b - 1"),
        played("1b2b 1h2h 2b1b 2h1h " * 3, "9/8k/9/9/9/9/9/8R/K8 w - 1"),
        played("5i4i", "RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 w 10P 1"),
        played("7g7f", cap=1),
        played("7g7f 3c3d", cap=2),
        played("3c3d", WHITE_FIRST, cap=1),
    ]
    for reason in FORFEITS:
        for moves in ("", "7g7f", "7g7f 3c3d"):
            games.append(played(moves, forfeit=reason))
        games.append(played("3c3d", HANDICAPS[0], reason))
    return [replace(game, index=n) for n, game in enumerate(games)]


@pytest.fixture(scope="module")
def games() -> list[PlayedGame]:
    found = all_games()
    assert {game.reason for game in found} == {
        "mate", "repetition", "perpetual_check", "declaration", "max_plies", *FORFEITS
    }  # fmt: skip
    return found


def saved(directory: Path, games: list[PlayedGame], encoding: KifEncoding = "utf-8") -> GameFiles:
    files = GameFiles(directory, *NAMES, MatchSettings(2, seed=1), encoding)
    for game in games:
        files.save(game)
    return files


def expected(game: PlayedGame) -> ReadGame:
    result = "draw" if game.result == "truncated" else game.result
    sfen = " ".join((game.start_sfen or STANDARD_SFEN).split()[:3])
    names = NAMES if game.is_black else NAMES[::-1]
    return ReadGame(list(names), sfen, game.moves, result)


def read(reader: str, files: list[Path]) -> list[ReadGame]:
    if reader == "tsshogi":
        return read_by_tsshogi(files)
    one = read_by_cshogi if reader == "cshogi" else read_by_python_shogi
    return [one(file) for file in files]


def unread(reader: str, suffix: str, game: PlayedGame) -> set[str]:
    """Parts of the game that the reader cannot read: the limits named in docs/evaluate.md."""
    has_diagram = game.start_sfen not in ["", *HANDICAPS]
    if suffix == ".csa" and reader == "python-shogi":
        _, _, hands, _ = (game.start_sfen or STANDARD_SFEN).split()
        of_hands = {"sfen"} if re.search("[0-9]", hands) else set[str]()
        return of_hands | ({"result"} if game.reason == "declaration" else set())
    if suffix == ".csa" and reader == "tsshogi":
        white_is_to_move = game.plies % 2 == (" w " not in game.start_sfen)
        winner_is_to_move = (game.result == "white_win") == white_is_to_move
        return {"result"} if game.reason == "perpetual_check" and winner_is_to_move else set()
    if suffix != ".csa" and reader == "cshogi" and has_diagram:
        return {"sfen", "moves"}
    if suffix != ".csa" and reader == "python-shogi" and has_diagram and game.plies % 2 == 1:
        return {"sfen"}
    return set()


@pytest.mark.parametrize("suffix", [".kifu", ".kif", ".csa"])
@pytest.mark.parametrize("reader", ["cshogi", "python-shogi", "tsshogi"])
def test_other_programs_read_every_game(
    reader: str, suffix: str, games: list[PlayedGame], tmp_path: Path
) -> None:
    if reader == "tsshogi" and not has_tsshogi():
        pytest.skip("Node or its package tsshogi is not there")
    saved(tmp_path / "games", games, "shift-jis" if suffix == ".kif" else "utf-8")
    files = [tmp_path / "games" / f"game-{game.index:06d}{suffix}" for game in games]
    for game, seen in zip(games, read(reader, files), strict=True):
        known = {name: getattr(seen, name) for name in unread(reader, suffix, game)}
        assert seen == replace(expected(game), **known), (game, files[game.index].read_bytes())


def lines_of(tmp_path: Path, game: PlayedGame, suffix: str) -> list[str]:
    saved(tmp_path / "games", [game])
    return (tmp_path / "games" / f"game-000000{suffix}").read_text(encoding="utf-8").split("\n")


def test_empty_squares_of_csa_have_their_star_in_the_middle(tmp_path: Path) -> None:
    rows = lines_of(tmp_path, played("3c3d 2g2f", WHITE_FIRST, "resign"), ".csa")
    assert "P2 * -HI *  *  *  *  * -KA * " in rows
    assert "P6 *  * +FU *  *  *  *  *  * " in rows


def test_a_large_hand_is_written_in_kanji(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, played("P*5e", PAWNS_17, "resign"), ".kifu")
    assert [line[6:] for line in lines if line.startswith("後手の持駒")] == ["歩十七"]


@pytest.mark.parametrize(
    ("game", "csa", "kif"),
    [
        (played("G*5b", "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"), "%TORYO", "詰み"),
        (played("7g7f 3c3d", cap=2), "%MAX_MOVES", "持将棋"),
    ],
    ids=["mate", "ply cap"],
)
def test_the_ending_is_one_that_all_know(
    game: PlayedGame, csa: str, kif: str, tmp_path: Path
) -> None:
    assert lines_of(tmp_path, game, ".csa")[-2:] == [csa, ""]
    *_, last_move, end, result, nothing = lines_of(tmp_path / "kif", game, ".kifu")
    assert last_move.split()[0] == str(game.plies)
    assert end.split()[:2] == [str(game.plies + 1), kif]
    assert result == f"まで{game.plies}手で{'持将棋' if kif == '持将棋' else '先手の勝ち'}"
    assert nothing == ""


def test_a_handicaps_winner_is_named_as_in_handicaps(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, played("3c3d", HANDICAPS[0], "resign"), ".kifu")
    assert lines[-2:] == ["まで1手で上手の勝ち", ""]


def test_characters_that_shift_jis_lacks_are_replaced_and_counted(tmp_path: Path) -> None:
    files = GameFiles(tmp_path, "Ünal", "將棋 🙂", MatchSettings(2, seed=1), "shift-jis")
    game = played("7g7f", forfeit="resign")
    for index in (0, 1):
        files.save(replace(game, index=index))
    # U with dots and the smile, in two games.
    assert files.num_replaced == 4
    assert read_by_cshogi(tmp_path / "game-000000.kif").names == ["?nal", "將棋 ?"]
    utf_8 = (tmp_path / "game-000000.csa").read_text(encoding="utf-8")
    assert Record.from_csa_str(utf_8).metadata.black_player == "Ünal"
