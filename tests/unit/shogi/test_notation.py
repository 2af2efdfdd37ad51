"""Finished games as KIF, CSA and USI, read back by two libraries."""

from dataclasses import replace

import cshogi
import numpy as np
import pytest
from cshogi import CSA, KIF
from rsshogi.core import Board
from rsshogi.record import GameResult, Record

from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.notation import (
    Heading,
    to_csa,
    to_kif,
    to_usi,
    unfinished_to_kif,
    with_comments,
)
from keisei_ray.shogi.vector_games import GameEnd, VectorGames

MATE_SFEN = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"


def finished(end: GameEnd) -> FinishedGame:
    return FinishedGame(
        game_id=f"0-0-{end.index}",
        actor_id=0,
        incarnation=0,
        index=end.index,
        weights_version=41,
        result=end.result,
        reason=end.reason,
        plies=end.plies,
        opening_plies=end.opening_plies,
        moves=end.moves,
        start_sfen="" if end.sfen == STANDARD_SFEN else end.sfen,
    )


def scripted(moves: str, sfen: str = STANDARD_SFEN, max_plies: int = 500) -> FinishedGame:
    """The game that these moves make, ended by the rules."""
    games = VectorGames(1, max_plies=max_plies, rng_for_game=np.random.default_rng, sfens=[sfen])
    for usi in moves.split():
        legal = [move.to_usi() for move in Board(games.current_sfen(0)).legal_moves()]
        result = games.step([legal.index(usi)])
    return finished(result.finished[0])


def random_games(num_games: int) -> list[FinishedGame]:
    games = VectorGames(num_games, max_plies=150, rng_for_game=np.random.default_rng)
    rng = np.random.default_rng(1)
    ends: list[GameEnd] = []
    while len(ends) < num_games:
        ends += games.step(rng.integers(np.diff(games.legal_offsets))).finished
    return [finished(end) for end in ends]


def test_random_games_come_back_from_every_format() -> None:
    for game in random_games(6):
        assert game.plies > 50
        for record in (
            Record.from_kif_str(to_kif(game)),
            Record.from_csa_str(to_csa(game)),
            Record.from_usi_position(to_usi(game)),
        ):
            assert [entry.move.to_usi() for entry in record.moves] == game.moves.split()


def test_cshogi_reads_the_same_moves() -> None:
    for game in random_games(3):
        kif = KIF.Parser.parse_str(to_kif(game))
        csa = CSA.Parser.parse_str(to_csa(game, Heading("a game", "new", "old")))[0]
        for moves in (kif.moves, csa.moves):
            assert [cshogi.move_to_usi(move) for move in moves] == game.moves.split()
        assert csa.names == ["new", "old"]


@pytest.mark.parametrize(
    ("game", "csa_end", "result"),
    [
        (
            scripted("G*5b", MATE_SFEN),
            "%TORYO",
            GameResult.BLACK_WIN,
        ),
        (
            scripted("2h3h 8b7b 3h2h 7b8b " * 3),
            "%SENNICHITE",
            GameResult.DRAW_BY_REPETITION,
        ),
        (
            scripted("2h1h 1b2b 1h2h 2b1b " * 3, "9/8k/9/9/9/9/9/7R1/K8 b - 1"),
            "%ILLEGAL_MOVE",
            GameResult.WHITE_WIN_BY_ILLEGAL_MOVE,
        ),
        (
            scripted("5i4i", "RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 w 10P 1"),
            "%KACHI",
            GameResult.BLACK_WIN_BY_DECLARATION,
        ),
        (
            scripted("7g7f", max_plies=1),
            "%MAX_MOVES",
            GameResult.DRAW_BY_MAX_PLIES,
        ),
    ],
    ids=["mate", "repetition", "perpetual_check", "declaration", "max_plies"],
)
def test_each_ending_is_recorded(game: FinishedGame, csa_end: str, result: GameResult) -> None:
    text = to_csa(game)
    assert text.strip().splitlines()[-1] == csa_end
    assert Record.from_csa_str(text).result == result
    from_kif = Record.from_kif_str(to_kif(game))
    assert [entry.move.to_usi() for entry in from_kif.moves] == game.moves.split()
    # KIF has no word for a ply cap: an impasse is the nearest draw.
    is_capped = result == GameResult.DRAW_BY_MAX_PLIES
    assert from_kif.result == (GameResult.DRAW_BY_IMPASSE if is_capped else result)
    sfen = game.start_sfen or STANDARD_SFEN
    assert to_usi(game) == f"position sfen {sfen} moves {game.moves}"


def test_a_game_without_its_moves_is_refused() -> None:
    with pytest.raises(ValueError, match="save_moves"):
        to_kif(replace(scripted("7g7f", max_plies=1), moves=""))


def test_a_result_that_its_reason_cannot_bring_is_refused() -> None:
    with pytest.raises(ValueError, match="'draw' cannot come from 'max_plies'"):
        to_kif(replace(scripted("7g7f", max_plies=1), result="draw"))


def test_moves_from_another_start_are_refused() -> None:
    with pytest.raises(ValueError, match="illegal"):
        to_csa(replace(scripted("7g7f", max_plies=1), start_sfen=MATE_SFEN))


def test_comments_follow_their_moves_in_the_main_line() -> None:
    kif = (
        "手合割：平手\n*head\n   1 ７六歩(77)\n*old\n   2 ３四歩(33)\n   3 中断\n\n"
        "変化：1手\n   1 ２六歩(27)\n"
    )
    assert with_comments(kif, {0: ["start"], 1: ["a", "b"], 2: ["c"]}) == (
        "手合割：平手\n*head\n*start\n   1 ７六歩(77)\n*old\n*a\n*b\n   2 ３四歩(33)\n*c\n"
        "   3 中断\n\n変化：1手\n   1 ２六歩(27)\n"
    )
    assert with_comments("手合割：平手\n", {0: ["start"]}) == "手合割：平手\n*start\n"
    assert with_comments(kif, {}) == kif


def test_a_game_without_an_end_has_none_in_kif() -> None:
    kif = unfinished_to_kif(STANDARD_SFEN, ["7g7f"], Heading(black="A", comment="c"))
    assert kif.splitlines()[-1].split()[:2] == ["1", "７六歩(77)"]
    assert KIF.Parser.parse_str(kif).names == ["A", None]
