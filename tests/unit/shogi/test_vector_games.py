"""N games side by side: arrays against the slow oracle, new games in place of ended ones, seeds."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsshogi.core import Board, Move

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.finished_game import ForfeitReason
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.observation import observe
from keisei_ray.shogi.rules import FORFEITS, PIECE_VALUES, forfeit
from keisei_ray.shogi.vector_games import GameEnd, VectorGames

MATE_SFEN = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
"""Black mates with a gold on 5b."""
MATING = Move.from_usi("G*5b").value


def rng_for_game(index: int) -> np.random.Generator:
    return np.random.default_rng([7, index])


def make_games(num_games: int, **settings: Any) -> VectorGames:
    defaults: dict[str, Any] = {"max_plies": 200, "rng_for_game": rng_for_game}
    return VectorGames(num_games, **(defaults | settings))


def random_choices(games: VectorGames, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rng.integers(np.diff(games.legal_offsets))


def labels_of(games: VectorGames, lane: int) -> npt.NDArray[np.int16]:
    return games.legal_labels[games.legal_offsets[lane] : games.legal_offsets[lane + 1]]


def play_usi(games: VectorGames, *usi_of_lane: str):  # type: ignore[no-untyped-def]
    """One named ply in each lane."""
    choices = []
    for lane, usi in enumerate(usi_of_lane):
        legal = Board(games.current_sfen(lane)).legal_moves()
        choices.append([move.to_usi() for move in legal].index(usi))
    return games.step(choices)


class Oracle:
    """One game replayed on a bare board, everything recomputed from its list of moves."""

    def __init__(self, sfen: str = STANDARD_SFEN) -> None:
        self.board = Board(sfen)
        self.positions = [self.key()]
        self.gave_check = [self.board.is_in_check()]

    def key(self) -> str:
        return self.board.to_sfen().rsplit(" ", 1)[0]

    def push(self, usi: str) -> None:
        self.board.apply_usi(usi)
        self.positions.append(self.key())
        self.gave_check.append(self.board.is_in_check())

    def checks_in_a_row(self, latest: int) -> int:
        count = 0
        for gave_check in self.gave_check[len(self.gave_check) - latest :: -2]:
            if not gave_check:
                break
            count += 1
        return count

    def check(self, games: VectorGames, lane: int) -> None:
        seen = observe(
            self.board,
            earlier=self.positions.count(self.positions[-1]) - 1,
            own_checks=self.checks_in_a_row(2) if len(self.gave_check) > 1 else 0,
            opponent_checks=self.checks_in_a_row(1),
        )
        np.testing.assert_array_equal(games.boards[lane], seen.board)
        np.testing.assert_array_equal(games.hands[lane], seen.hand)
        np.testing.assert_array_equal(games.scalars[lane], seen.scalars)
        assert games.turns[lane] == int(self.board.turn.value)
        assert games.plies[lane] == len(self.positions) - 1
        values = [move.value for move in self.board.legal_moves()]
        labels = LABEL_OF_MOVE[games.turns[lane], values]
        np.testing.assert_array_equal(labels_of(games, lane), labels)
        bits = np.zeros(NUM_ACTIONS, dtype=bool)
        bits[labels] = True
        np.testing.assert_array_equal(games.legal_bits()[lane], np.packbits(bits))


def test_arrays_equal_the_slow_oracle_after_every_ply() -> None:
    games = make_games(6, max_plies=120)
    rng = np.random.default_rng(1)
    oracles = [Oracle() for _ in range(6)]
    num_finished = 0
    while num_finished < 12:
        choices = random_choices(games, rng)
        moves = [
            oracle.board.legal_moves()[choice].to_usi()
            for oracle, choice in zip(oracles, choices, strict=True)
        ]
        result = games.step(choices)
        for oracle, move in zip(oracles, moves, strict=True):
            oracle.push(move)
        for end in result.finished:
            oracles[end.lane] = Oracle()
        num_finished += len(result.finished)
        for lane, oracle in enumerate(oracles):
            oracle.check(games, lane)


def test_arrays_equal_the_oracle_where_kings_are_chased_and_positions_recur() -> None:
    sfens = ["9/8k/9/9/9/9/9/7R1/K8 b - 1", "k8/9/9/9/9/9/9/r6R1/4K4 w - 1"]
    games = make_games(8, sfens=sfens, max_plies=60)
    rng = np.random.default_rng(4)
    oracles = [Oracle(games.current_sfen(lane)) for lane in range(8)]
    most = np.zeros(3, dtype=int)
    for _ in range(240):
        choices = []
        for oracle in oracles:
            legal = oracle.board.legal_moves()
            checks = []
            for choice, move in enumerate(legal):
                oracle.board.apply_move(move)
                if oracle.board.is_in_check() or oracle.key() in oracle.positions:
                    checks.append(choice)
                oracle.board.undo_move(move)
            choices.append(int(rng.choice(checks or range(len(legal)))))
            oracle.push(legal[choices[-1]].to_usi())
        for end in games.step(choices).finished:
            oracles[end.lane] = Oracle(games.current_sfen(end.lane))
        for lane, oracle in enumerate(oracles):
            oracle.check(games, lane)
        most = np.maximum(most, games.scalars.max(axis=0))
    assert most[0] == 2, "positions should have recurred"
    assert most[1] > 5, "checks should have come in a row"
    assert most[2] > 5


def test_a_game_that_starts_in_check_says_so() -> None:
    games = make_games(1, sfens=["4k4/9/9/9/9/9/9/4r4/4K4 b - 1"])
    assert games.scalars[0].tolist() == [0, 0, 1]
    play_usi(games, "5i5h")
    assert games.scalars[0].tolist() == [0, 1, 0]


def test_more_checks_in_a_row_than_a_byte_holds_saturate() -> None:
    game = Game(STANDARD_SFEN, max_plies=4096)
    game.own_checks, game.opponent_checks = 256, 1000
    assert list(game.scalars()) == [0, 255, 255]


def test_every_start_position_is_drawn() -> None:
    sfens = [STANDARD_SFEN, MATE_SFEN, "8k/9/9/9/9/9/9/9/K8 w - 1"]
    games = make_games(30, sfens=sfens)
    assert {games.current_sfen(lane) for lane in range(30)} == set(sfens)


# How a game ends ---------------------------------------------------------------------------


def test_a_mate_pays_the_mover_and_starts_a_fresh_game_in_that_lane_only() -> None:
    games = make_games(2, sfens=[MATE_SFEN])
    fresh = games.boards[0].copy()
    result = play_usi(games, "G*5b", "5i5h")
    assert result.rewards.tolist() == [1.0, 0.0]
    assert result.terminated.tolist() == [True, False]
    assert result.truncated.tolist() == [False, False]
    assert result.finished == (
        GameEnd(
            lane=0,
            index=0,
            sfen=MATE_SFEN,
            result="black_win",
            reason="mate",
            plies=1,
            opening_plies=0,
            moves="G*5b",
        ),
    )
    assert result.final_boards.shape == (0, 81)
    assert games.game_index.tolist() == [2, 1]
    assert games.plies.tolist() == [0, 1]
    assert games.turns.tolist() == [0, 1]
    assert games.current_sfen(0) == MATE_SFEN
    assert [games.last_move_usi(lane) for lane in range(2)] == ["", "5i5h"]
    np.testing.assert_array_equal(games.boards[0], fresh)


def test_white_mates_and_white_has_won() -> None:
    games = make_games(1, sfens=["4k4/9/9/9/9/9/4p4/9/4K4 w g 1"])
    result = play_usi(games, "G*5h")
    assert result.rewards.tolist() == [1.0]
    assert result.finished[0].result == "white_win"


@pytest.mark.parametrize(
    ("sfen", "moves", "result", "reason", "reward"),
    [
        (STANDARD_SFEN, "2h3h 8b7b 3h2h 7b8b " * 3, "draw", "repetition", 0.0),
        # Black checks all the while; White completes the fourth occurrence.
        (
            "9/8k/9/9/9/9/9/7R1/K8 b - 1",
            "2h1h 1b2b 1h2h 2b1b " * 3,
            "white_win",
            "perpetual_check",
            1.0,
        ),
        # White checks all the while; White completes the fourth occurrence.
        (
            "8k/2r6/9/9/9/9/9/K8/9 w - 1",
            "7b9b 9h8h 9b8b 8h9h " + "8b9b 9h8h 9b8b 8h9h " * 2 + "8b9b",
            "black_win",
            "perpetual_check",
            -1.0,
        ),
        (
            "RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 w 10P 1",
            "5i4i",
            "black_win",
            "declaration",
            -1.0,
        ),
        (
            "4K4/9/9/9/9/9/1ggggssss/4k4/7br b 9p 1",
            "5a4a",
            "white_win",
            "declaration",
            -1.0,
        ),
    ],
)
def test_other_endings(sfen: str, moves: str, result: str, reason: str, reward: float) -> None:
    games = make_games(1, sfens=[sfen])
    *before, last = [play_usi(games, usi) for usi in moves.split()]
    assert not any(step.finished or step.terminated.any() for step in before)
    assert (last.finished[0].result, last.finished[0].reason) == (result, reason)
    assert last.finished[0].moves == " ".join(moves.split())
    assert last.rewards.tolist() == [reward]
    assert last.terminated.tolist() == [True]
    assert last.truncated.tolist() == [False]


def test_a_truncated_game_leaves_its_final_observation() -> None:
    games = make_games(2, max_plies=3, save_moves=False)
    oracle = Board()
    for usi in ("7g7f", "3c3d"):
        oracle.apply_usi(usi)
        assert not play_usi(games, usi, usi).truncated.any()
    oracle.apply_usi("8h2b+")
    result = play_usi(games, "8h2b+", "2g2f")
    assert result.truncated.tolist() == [True, True]
    assert result.terminated.tolist() == [False, False]
    assert result.rewards.tolist() == [0.0, 0.0]
    assert result.final_lanes.tolist() == [0, 1]
    board, hand, scalars = observe(oracle)
    np.testing.assert_array_equal(result.final_boards[0], board)
    np.testing.assert_array_equal(result.final_hands[0], hand)
    np.testing.assert_array_equal(result.final_scalars[0], scalars)
    assert [(e.result, e.reason, e.moves) for e in result.finished] == [
        ("truncated", "max_plies", "")
    ] * 2
    # The games went on from the start position, and the final arrays did not change.
    np.testing.assert_array_equal(games.boards[0], observe(Board()).board)
    games.step([0, 0])
    np.testing.assert_array_equal(result.final_boards[0], board)


def test_mate_on_the_cap_ply_is_mate() -> None:
    games = make_games(1, sfens=[MATE_SFEN], max_plies=1)
    result = play_usi(games, "G*5b")
    assert result.terminated.tolist() == [True]
    assert result.truncated.tolist() == [False]
    assert len(result.final_lanes) == 0


# Seeds and independence --------------------------------------------------------------------


def played(num_games: int, first: int, last: int) -> dict[int, GameEnd]:
    """Games first..last, each opening and each move drawn from streams of the game's own."""
    games = make_games(
        num_games,
        max_plies=80,
        random_opening_plies=6,
        rng_for_game=lambda index: rng_for_game(first + index),
    )
    ends: dict[int, GameEnd] = {}
    streams = [np.random.default_rng([3, first + index]) for index in range(1000)]
    while not set(range(last - first + 1)) <= set(ends):
        counts = np.diff(games.legal_offsets)
        choices = [
            streams[index].integers(count)
            for index, count in zip(games.game_index.tolist(), counts, strict=True)
        ]
        ends |= {end.index: end for end in games.step(choices).finished}
    return {first + index: ends[index] for index in range(last - first + 1)}


def test_games_side_by_side_are_the_games_played_one_at_a_time() -> None:
    together = played(5, 0, 11)
    again = played(5, 0, 11)
    assert together == again
    for index in range(12):
        alone = played(1, index, index)[index]
        together_end = together[index]
        assert alone.moves == together_end.moves
        assert alone.result == together_end.result
        assert alone.opening_plies == together_end.opening_plies
    assert len({end.moves for end in together.values()}) == 12
    assert len({end.opening_plies for end in together.values()}) > 2


def test_equal_generators_give_equal_openings_and_others_do_not() -> None:
    games = make_games(
        8,
        random_opening_plies=20,
        sfens=[STANDARD_SFEN, MATE_SFEN],
        rng_for_game=lambda index: np.random.default_rng(index // 2),
    )
    sfens = [games.current_sfen(lane) for lane in range(8)]
    assert sfens[::2] == sfens[1::2]
    assert len(set(sfens)) == 4
    assert games.plies.max() <= 20


# What the opponents ask --------------------------------------------------------------------


def material(board: Board) -> int:
    """Pieces on the board, the side to move's minus the other's; hands do not count."""
    return sum(
        PIECE_VALUES[piece.piece_type.value] * (1 if piece.color == board.turn else -1)
        for _, piece in board.iter_pieces()
    )


def test_gains_are_the_change_of_material_on_the_board() -> None:
    games = make_games(3, random_opening_plies=150, max_plies=400)
    rng = np.random.default_rng(2)
    num_gaining = 0
    for _ in range(60):
        gains = games.gains()
        assert gains.shape == games.legal_labels.shape
        for lane in range(3):
            board = Board(games.current_sfen(lane))
            before = material(board)
            moves = board.legal_moves()
            for move, gain in zip(moves, gains[games.legal_offsets[lane] :], strict=False):
                board.apply_move(move)
                piece = move.dropped_piece_type
                dropped = PIECE_VALUES[piece.value] if piece else 0
                assert -material(board) - dropped - before == gain, move
                num_gaining += gain > 0
                board.undo_move(move)
        games.step(random_choices(games, rng))
    assert num_gaining > 200


def test_mate_in_one_finds_mates_and_only_mates() -> None:
    games = make_games(8, random_opening_plies=100, max_plies=400)
    rng = np.random.default_rng(6)
    num_mates = num_found = 0
    for _ in range(300):
        found = games.mate_in_one()
        for lane in range(8):
            board = Board(games.current_sfen(lane))
            mates = []
            for choice, move in enumerate(board.legal_moves()):
                board.apply_move(move)
                if board.is_in_check() and not board.legal_moves():
                    mates.append(choice)
                board.undo_move(move)
            assert found[lane] in (mates or [-1]) or found[lane] == -1
            num_mates += bool(mates)
            num_found += bool(found[lane] >= 0)
        games.step(random_choices(games, rng))
    assert num_mates > 20
    assert num_found >= 0.9 * num_mates


# What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        ([0, 30], r"choices\[1\] = 30.*30 legal moves"),
        ([-1, 0], r"choices\[0\] = -1"),
        ([0], r"shape \(1,\)"),
        ([0.0, 1.0], "float64"),
    ],
)
def test_a_choice_that_is_no_legal_move_is_refused_and_nothing_is_played(
    choices: list[float], fault: str
) -> None:
    games = make_games(2)
    with pytest.raises(ValueError, match=fault):
        games.step(choices)
    assert games.plies.tolist() == [0, 0]
    np.testing.assert_array_equal(games.boards[0], observe(Board()).board)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"num_games": 0}, "num_games = 0"),
        ({"random_opening_plies": 200}, "random_opening_plies = 200.*199"),
        ({"sfens": []}, "sfens is empty"),
        ({"rng_for_game": None}, "rng_for_game or start_game"),
        ({"start_game": Game}, "rng_for_game or start_game"),
        ({"sfens": ["8k/9/9/9/9/9/9/9/9 b - 1"]}, "king is missing"),
    ],
)
def test_sizes_and_positions_that_make_no_games_are_refused(
    settings: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        make_games(**({"num_games": 2} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", FORFEITS)
def test_a_forfeit_loses_for_the_side_to_move_and_plays_no_ply(reason: ForfeitReason) -> None:
    games, untouched = make_games(3), make_games(3)
    # Black is to move in lane 0, White in lane 1 after one ply more; lane 2 plays on.
    for both in (games, untouched):
        play_usi(both, "7g7f", "2g2f", "1g1f")
    games.step([0, forfeit(reason), 0])
    result = untouched.step([0, 0, 0])
    assert not result.terminated.any()
    (end,) = games.step([forfeit(reason), 0, 0]).finished
    untouched.step([0, 0, 0])
    assert (end.lane, end.index, end.result, end.reason) == (0, 0, "white_win", reason)
    assert len(end.moves.split()) == end.plies == 2
    assert games.current_sfen(2) == untouched.current_sfen(2)
    assert games.game_index.tolist() == [4, 3, 2]
    assert games.plies.tolist() == [0, 1, 3]
    check_against_oracle_boards(games)


def test_a_forfeiting_side_gets_the_reward_of_a_loss() -> None:
    games = make_games(2)
    play_usi(games, "7g7f", "2g2f")
    result = games.step([forfeit("resign"), 0])
    assert result.rewards.tolist() == [-1, 0]
    assert result.terminated.tolist() == [True, False]
    assert not result.truncated.any()
    assert len(result.final_lanes) == 0
    assert result.finished[0].result == "black_win"


def check_against_oracle_boards(games: VectorGames) -> None:
    """Boards, turns and legal labels of every lane, from its position alone."""
    for lane in range(games.num_games):
        game = Game(games.current_sfen(lane), max_plies=500)
        boards, hands, _ = game.observe()
        assert np.array_equal(games.boards[lane], boards)
        assert np.array_equal(games.hands[lane], hands)
        assert games.turns[lane] == game.turn
        moves = np.frombuffer(game.legal, dtype=np.uint16)
        assert labels_of(games, lane).tolist() == LABEL_OF_MOVE[game.turn][moves].tolist()


@pytest.mark.parametrize("choice", [-1, -99, forfeit(FORFEITS[-1]) - 1])
def test_other_negative_choices_are_no_forfeits(choice: int) -> None:
    games = make_games(2)
    with pytest.raises(ValueError, match=rf"choices\[1\] = {choice}"):
        games.step([0, choice])
    assert games.plies.tolist() == [0, 0]


def test_a_move_is_found_by_its_usi_notation_only_where_it_is_legal() -> None:
    games = make_games(2, random_opening_plies=40)
    for lane in range(2):
        legal = [move.to_usi() for move in Board(games.current_sfen(lane)).legal_moves()]
        assert [games.find_move(lane, usi) for usi in legal] == list(range(len(legal)))
        assert games.find_move(lane, "1a4c") is None  # No piece goes so.
    with pytest.raises(ValueError, match="invalid USI"):
        games.find_move(0, "resign")


def test_the_usi_position_command_leads_to_the_position() -> None:
    games = make_games(4, random_opening_plies=30, sfens=[STANDARD_SFEN, MATE_SFEN])
    for lane in range(4):
        board = Board()
        board.set_usi_position(games.usi_position(lane).removeprefix("position "))
        assert board.to_sfen() == games.current_sfen(lane)


# ---- games that go on elsewhere ----

DANCING = ("5i5h", "5a5b", "5h5i", "5b5a")
"""Four plies after which the position is the same."""


@settings(max_examples=15)
@given(st.integers(0, 60), st.integers(0, 9))
def test_restored_games_go_on_as_the_others_do(plies: int, opening: int) -> None:
    sfens = (STANDARD_SFEN, MATE_SFEN)
    values: dict[str, Any] = {"max_plies": 40, "random_opening_plies": opening, "sfens": sfens}
    games, rng = make_games(3, **values), np.random.default_rng(plies)
    for _ in range(plies):
        games.step(random_choices(games, rng))
    others = make_games(3, **values)
    others.restore(games.state())
    assert others.state() == games.state()
    for _ in range(30):
        for name in ("boards", "hands", "scalars", "legal_labels", "turns", "plies", "game_index"):
            np.testing.assert_array_equal(getattr(games, name), getattr(others, name), name)
        choices = random_choices(games, rng)
        assert games.step(choices).finished == others.step(choices).finished


def test_earlier_occurrences_of_a_position_are_restored() -> None:
    games = make_games(1)
    for usi in DANCING * 2:
        play_usi(games, usi)
    others = make_games(1)
    others.restore(games.state())
    for usi in DANCING[:3]:
        play_usi(others, usi)
    (end,) = play_usi(others, DANCING[3]).finished
    assert (end.reason, end.plies) == ("repetition", 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moves": b"\xff\xff"}, r"move 65535 \(ply 1\) is not legal"),
        ({"start_sfen": "x"}, "not an SFEN"),
        ({"start_sfen": MATE_SFEN, "moves": np.array([MATING], "<u2").tobytes()}, "has ended"),
    ],
)
def test_a_game_that_cannot_be_replayed_is_refused(change: dict[str, Any], message: str) -> None:
    games = make_games(1)
    before = games.state()
    state = replace(before, games=(replace(before.games[0], **change),))
    with pytest.raises(CheckpointError, match=message):
        games.restore(state)
    assert games.state() == before


def test_a_state_of_another_number_of_games_is_refused() -> None:
    with pytest.raises(CheckpointError, match="holds 2 games, expected 3"):
        make_games(3).restore(make_games(2).state())
