"""Games between a person and a network: what may be done in them, and how they end."""

import pytest

from keisei_ray.errors import PositionError
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.handicaps import HANDICAPS
from keisei_ray.shogi.notation import Heading
from keisei_ray.web.human_game import HumanGame, StalePositionError

MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
CHASE = "9/8k/9/9/9/9/9/7R1/K8 b - 1"


def played(game: HumanGame, moves: str) -> HumanGame:
    """The game after more moves, of whichever side."""
    for usi in moves.split():
        game.play(usi, game.ply)
    return game


def test_a_new_game_shows_the_legal_moves_to_the_side_that_is_the_persons() -> None:
    assert len(HumanGame("black").state()["legal"]) == 30
    white = HumanGame("white")
    assert white.is_networks_turn
    assert white.state()["legal"] == []


@pytest.mark.parametrize(
    ("sfen", "moves", "result", "reason", "score"),
    [
        (MATE_IN_ONE, "G*5b", "black_win", "mate", 1.0),
        (STANDARD_SFEN, "2h3h 8b7b 3h2h 7b8b " * 3, "draw", "repetition", 0.5),
        (CHASE, "2h1h 1b2b 1h2h 2b1b " * 3, "white_win", "perpetual_check", 0.0),
        ("RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 w 10P 1", "5i4i", "black_win", "declaration", 1.0),
        (STANDARD_SFEN, "7g7f 3c3d 2g2f", "truncated", "max_plies", 0.5),
    ],
    ids=["mate", "repetition", "perpetual_check", "declaration", "max_plies"],
)
def test_a_game_ends_by_the_rules(
    sfen: str, moves: str, result: str, reason: str, score: float
) -> None:
    cap = len(moves.split()) if reason == "max_plies" else 100
    game = played(HumanGame("black", sfen, max_plies=cap), moves)
    assert game.end == (result, reason)
    assert game.score == score
    state = game.state()
    assert state["end"]["reason"] == reason
    assert state["legal"] == []
    assert not game.is_humans_turn
    assert not game.is_networks_turn
    with pytest.raises(PositionError, match="the game is over"):
        game.play("1a1b", game.ply)
    with pytest.raises(PositionError, match="the game is over"):
        game.take_back(game.ply)
    heading = Heading(black="Human", white="Network")
    assert "Human" in game.kif(heading)
    assert "Human" in game.csa(heading)


@pytest.mark.parametrize(
    "usi", ["7g7e", "7g7f+", "P*5e", "nonsense", "", "7g7f 3c3d", "0000", "9" * 99]
)
def test_an_illegal_move_changes_nothing(usi: str) -> None:
    game = HumanGame("black")
    with pytest.raises(PositionError, match="not a legal move of Black"):
        game.play(usi, 0)
    assert game.ply == 0
    assert game.is_humans_turn


def test_a_move_that_comes_twice_counts_once() -> None:
    game = HumanGame("black")
    game.play("7g7f", 0)
    with pytest.raises(StalePositionError, match="after 0 moves, and 1 have been played"):
        game.play("7g7f", 0)
    assert game.moves == ("7g7f",)


def test_taking_back_leads_to_before_the_last_move_of_the_person() -> None:
    game = played(HumanGame("black"), "7g7f 3c3d 2g2f")
    game.take_back(3)
    assert game.moves == ("7g7f", "3c3d")
    game.take_back(2)
    assert game.ply == 0
    assert game.take_backs == 2
    with pytest.raises(PositionError, match="no move of yours"):
        game.take_back(0)
    white = played(HumanGame("white"), "7g7f")
    assert not white.state()["can_take_back"]
    with pytest.raises(PositionError, match="no move of yours"):
        white.take_back(1)


def test_what_was_taken_back_does_not_count_for_repetition() -> None:
    game = played(HumanGame("black"), "2h3h 8b7b 3h2h 7b8b " * 2 + "2h3h 8b7b 3h2h")
    game.take_back(11)
    game = played(game, "1g1f 7b8b")
    assert game.end is None
    assert game.state()["occurrences"] == 1
    game = played(HumanGame("black"), "2h3h 8b7b 3h2h 7b8b " * 2)
    assert game.state()["occurrences"] == 3


@pytest.mark.parametrize(("human", "result"), [("black", "white_win"), ("white", "black_win")])
def test_resigning_loses(human: str, result: str) -> None:
    game = HumanGame("black" if human == "black" else "white")
    if human == "white":
        played(game, "7g7f")
    game.resign(game.ply)
    assert game.end == (result, "resign")
    assert game.score == 0.0


def test_the_network_cannot_be_made_to_resign() -> None:
    game = played(HumanGame("black"), "7g7f")
    for give_up in (game.resign, game.lose_on_time):
        with pytest.raises(PositionError, match="the network is to move"):
            give_up(1)
    assert game.end is None


@pytest.mark.parametrize(
    "sfen",
    [
        "",
        "x",
        "9/9/9/9/9/9/9/9/9 b - 1",
        "4k4/4R4/9/9/9/9/9/9/4K4 b - 1",
        "4k4/9/9/9/9/9/9/9/4K4 b P 65535",
        "a" * 5000,
    ],
)
def test_a_start_from_which_no_game_can_be_played_is_refused_in_a_line(sfen: str) -> None:
    with pytest.raises(PositionError, match="start position") as raised:
        HumanGame("black", sfen)
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("handicap", HANDICAPS, ids=lambda handicap: handicap.name)
def test_handicap_games_can_be_played_and_are_named_in_kif(handicap: tuple[str, str, str]) -> None:
    name, japanese, sfen = handicap
    game = HumanGame("black", sfen)
    assert game.is_networks_turn == (name != "Even game")
    assert f"手合割：{japanese}" in game.kif(Heading())
