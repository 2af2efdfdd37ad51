"""The rules against a second library, and every way a game ends, from real positions."""

import cshogi
import numpy as np
import pytest
from rsshogi.core import Board, Move
from rsshogi.types import RepetitionState

from keisei_ray.shogi.game import (
    MAX_START_PLY,
    STANDARD_SFEN,
    Game,
    Opening,
    check_start,
    open_game,
    play_opening,
)
from keisei_ray.shogi.rules import (
    CHECKED_WINS,
    CHECKER_LOSES,
    DECLARATION,
    MATE,
    PLY_CAP,
    REPETITION,
    Verdict,
    can_declare,
    repetition_verdict,
)
from tests.helpers.games import replay_game


def play(sfen: str, moves: str, *, max_plies: int = 1000) -> list[Verdict | None]:
    """The verdict after each of these plies."""
    game = Game(sfen, max_plies=max_plies)
    verdicts = []
    for usi in moves.split():
        verdicts.append(game.play(Move.from_usi(usi).value))
    return verdicts


def legal_usi(sfen: str) -> set[str]:
    values = np.frombuffer(Game(sfen, max_plies=1000).legal, dtype=np.uint16)
    return {Move(value).to_usi() for value in values.tolist()}


def turned(usi: str) -> str:
    """The same move for the other side of the turned board."""

    def square(text: str) -> str:
        return f"{10 - int(text[0])}{chr(ord('a') + ord('i') - ord(text[1]))}"

    start = usi[:2] if "*" in usi else square(usi[:2])
    return start + square(usi[2:4]) + usi[4:]


def as_white(sfen: str, moves: str) -> tuple[str, str]:
    """A position and moves with the colours swapped."""
    return Board(sfen).to_sfen_flipped(), " ".join(turned(usi) for usi in moves.split())


def both_colours(sfen: str, moves: str) -> list[tuple[str, str]]:
    return [(sfen, moves), as_white(sfen, moves)]


# Move generation ---------------------------------------------------------------------------


def perft(board: Board, depth: int) -> int:
    legal = board.legal_moves()
    if depth == 1:
        return len(legal)
    total = 0
    for move in legal:
        board.apply_move(move)
        total += perft(board, depth - 1)
        board.undo_move(move)
    return total


def cshogi_perft(board: cshogi.Board, depth: int) -> int:
    legal = list(board.legal_moves)
    if depth == 1:
        return len(legal)
    total = 0
    for move in legal:
        board.push(move)
        total += cshogi_perft(board, depth - 1)
        board.pop()
    return total


@pytest.mark.parametrize(("depth", "nodes"), [(1, 30), (2, 900), (3, 25470)])
def test_perft_of_the_start_position_is_the_published_count(depth: int, nodes: int) -> None:
    assert perft(Board(), depth) == nodes


@pytest.mark.parametrize(
    ("sfen", "depth"),
    [
        # The position with 593 legal moves, the most there can be.
        ("R8/2K1S1SSk/4B4/9/9/9/9/9/1L1L1L3 b RBGSNLP3g3n17p 1", 2),
        # An endgame with pins, promotions and full hands ("matsuri").
        ("l6nl/5+P1gk/2np1S3/p1p4Pp/3P2Sp1/1PPb2P1P/P5GS1/R8/LN4bKL w RGgsn5p 1", 2),
        # Kings in both camps, check to answer.
        ("9/4K4/4p4/9/3g5/9/4P4/9/4k4 b RBrb2G2P2p 1", 2),
        # Double check: only the king may move.
        ("4k4/9/4N4/9/9/9/9/4R4/K8 b - 1", 3),
        # Pinned pieces on a file, a rank and a diagonal.
        ("4r1b2/9/6P2/4G4/r1P1K3l/9/9/9/k8 b 2G2S2N 1", 2),
        # A pawn drop that would mate, and other drops that do.
        ("8k/9/6NG1/9/9/9/9/9/4K4 b PLNS 1", 3),
    ],
)
def test_perft_equals_cshogis(sfen: str, depth: int) -> None:
    assert perft(Board(sfen), depth) == cshogi_perft(cshogi.Board(sfen), depth)


def test_legal_moves_equal_cshogis_on_thousands_of_positions() -> None:
    rng = np.random.default_rng(5)
    board, other = Board(), cshogi.Board()
    num_moves = 0
    for _ in range(4000):
        moves = board.legal_moves()
        usi = [move.to_usi() for move in moves]
        assert set(usi) == {cshogi.move_to_usi(move) for move in other.legal_moves}
        num_moves += len(usi)
        if not moves or board.game_ply > 300:
            board, other = Board(), cshogi.Board()
            continue
        assert board.is_in_check() == other.is_check()
        choice = rng.integers(len(moves))
        board.apply_move(moves[choice])
        other.push_usi(usi[choice])
    assert num_moves > 100_000


# Single rules ------------------------------------------------------------------------------

UCHIFUZUME_SFEN = "8k/9/6NG1/9/9/9/9/9/4K4 b PL 1"


def test_a_pawn_drop_that_mates_is_not_legal_but_other_drops_that_mate_are() -> None:
    legal = legal_usi(UCHIFUZUME_SFEN)
    assert "P*1b" not in legal
    assert {"P*1c", "L*1b"} <= legal
    assert play(UCHIFUZUME_SFEN, "L*1b") == [MATE]


def test_a_pawn_on_the_board_may_mate() -> None:
    assert play("8k/9/6NGP/9/9/9/9/9/4K4 b - 1", "1c1b") == [MATE]


def test_a_pawn_drop_that_checks_but_does_not_mate_is_legal() -> None:
    assert "P*1b" in legal_usi("8k/9/7G1/9/9/9/9/9/4K4 b P 1")


def test_nifu_is_not_legal_and_a_promoted_pawn_does_not_count() -> None:
    legal = legal_usi("4k4/9/9/9/9/9/P3+P4/9/4K4 b P 1")
    assert not {f"P*9{rank}" for rank in "abcdefghi"} & legal
    assert {"P*5d", "P*1b"} <= legal


def test_pieces_are_not_dropped_where_they_could_never_move() -> None:
    legal = legal_usi("4k4/9/9/9/9/9/9/9/4K4 b PLN 1")
    assert not {"P*1a", "L*1a", "N*1a", "N*1b"} & legal
    assert {"P*1b", "L*1b", "N*1c"} <= legal


# Mate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sfen", "move"), both_colours("4k4/9/4P4/9/9/9/9/9/4K4 b G 1", "G*5b"))
def test_mate_by_check_is_won_by_the_mover(sfen: str, move: str) -> None:
    assert play(sfen, move) == [MATE]
    assert MATE.reward == 1.0


@pytest.mark.parametrize(("sfen", "move"), both_colours("8k/9/6N2/7G1/9/9/9/9/4K4 b - 1", "2d2c"))
def test_stalemate_is_lost_by_the_side_that_cannot_move(sfen: str, move: str) -> None:
    game = replay_game(sfen, [move], max_plies=10)
    assert not game.board.is_in_check()
    assert not game.legal
    assert play(sfen, move) == [MATE]


# Repetition --------------------------------------------------------------------------------

SHUFFLE = "2h3h 8b7b 3h2h 7b8b"
# Black's rook chases the king between files 1 and 2; every ply of Black's is a check.
CHASE_SFEN = "9/8k/9/9/9/9/9/7R1/K8 b - 1"
CHASE = "2h1h 1b2b 1h2h 2b1b"
LATE_CHASE_SFEN = "9/8k/9/9/9/9/9/6R2/K8 b - 1"


def test_the_fourth_occurrence_draws_and_not_the_third() -> None:
    verdicts = play(STANDARD_SFEN, " ".join([SHUFFLE] * 3))
    assert verdicts == [None] * 11 + [REPETITION]
    assert REPETITION.reward == 0


def test_another_hand_or_another_side_to_move_is_another_position() -> None:
    # Eight plies later the pieces stand as before, but White's pawn is in Black's hand.
    start = "8k/9/9/9/9/9/9/4R4/K8 w {hand} 1"
    moves = ["P*5e", "5h5e", "1a2a", "5e5h", "2a1b", "9i9h", "1b1a", "9h9i"]
    game = replay_game(start.format(hand="p"), moves, max_plies=100)
    assert game.board.to_sfen().startswith(start.format(hand="P")[:-1])
    assert game.earlier == 0
    # Triangulating with the king loses a move: the same pieces, the other side to move.
    start = "4k4/9/9/9/9/9/9/9/4K4"
    moves = ["5i5h", "5a5b", "5h4i", "5b5a", "4i5i"]
    game = replay_game(f"{start} b - 1", moves, max_plies=100)
    assert game.board.to_sfen().startswith(f"{start} w")
    assert game.earlier == 0


@pytest.mark.parametrize(("sfen", "moves"), both_colours(CHASE_SFEN, " ".join([CHASE] * 3)))
def test_perpetual_check_loses_when_the_checked_side_completes_it(sfen: str, moves: str) -> None:
    assert play(sfen, moves) == [None] * 11 + [CHECKED_WINS]


@pytest.mark.parametrize(
    ("sfen", "moves"),
    both_colours(LATE_CHASE_SFEN, " ".join(["3h1h 1b2b 1h2h 2b1b", CHASE, CHASE, "2h1h"])),
)
def test_perpetual_check_loses_when_the_checking_side_completes_it(sfen: str, moves: str) -> None:
    assert play(sfen, moves) == [None] * 12 + [CHECKER_LOSES]


def test_a_cycle_with_one_quiet_ply_is_a_draw() -> None:
    cycle = "2h1h 1b2b 1h3h 2b2c 3h2h 2c1b"  # check, quiet, check
    assert play(CHASE_SFEN, " ".join([cycle] * 3)) == [None] * 17 + [REPETITION]


def test_quiet_plies_before_the_cycle_do_not_excuse_the_checker() -> None:
    quiet = "2h2g 1b1a 2g2h 1a1b"
    verdicts = play(CHASE_SFEN, " ".join([quiet, CHASE, CHASE]))
    # The start position counts as well, and the quiet plies lie between its occurrences.
    assert verdicts == [None] * 11 + [REPETITION]
    verdicts = play("9/8k/9/9/9/9/9/9/K7R b - 1", f"1i2i 1b1a 2i2h 1a1b {CHASE} {CHASE} {CHASE}")
    assert verdicts == [None] * 15 + [CHECKED_WINS]


@pytest.mark.parametrize(
    ("mover_checks", "opponent_checks", "verdict"),
    [
        (2, 0, CHECKER_LOSES),
        (0, 2, CHECKED_WINS),
        (1, 0, REPETITION),
        (0, 1, REPETITION),
        (2, 2, REPETITION),
        (9, 1, CHECKER_LOSES),
    ],
)
def test_who_is_at_fault_in_a_cycle_of_four_plies(
    mover_checks: int, opponent_checks: int, verdict: Verdict
) -> None:
    checks = {"mover_checks": mover_checks, "opponent_checks": opponent_checks}
    assert repetition_verdict(4, **checks) == verdict


def test_cshogi_names_the_same_checker() -> None:
    # cshogi judges a cycle as soon as it closes, so its last word is compared.
    verdicts = {
        cshogi.REPETITION_DRAW: REPETITION,
        cshogi.REPETITION_LOSE: CHECKED_WINS,
        cshogi.REPETITION_WIN: CHECKER_LOSES,
    }
    late = " ".join(["3h1h 1b2b 1h2h 2b1b", CHASE, CHASE, "2h1h"])
    games = [(STANDARD_SFEN, " ".join([SHUFFLE] * 3))]
    games += both_colours(CHASE_SFEN, " ".join([CHASE] * 3))
    games += both_colours(LATE_CHASE_SFEN, late)
    for sfen, moves in games:
        board = cshogi.Board(sfen)
        for usi in moves.split():
            board.push_usi(usi)
        assert play(sfen, moves)[-1] == verdicts[board.is_draw()]


def test_repetitions_in_aimless_games_are_judged_as_rsshogi_judges_them() -> None:
    rng = np.random.default_rng(11)
    verdicts = {
        str(RepetitionState.NONE): None,
        # The same board with a better or worse hand: an engine's shortcut, not a rule.
        str(RepetitionState.SUPERIOR): None,
        str(RepetitionState.INFERIOR): None,
        str(RepetitionState.DRAW): REPETITION,
        str(RepetitionState.LOSE): CHECKED_WINS,
        str(RepetitionState.WIN): CHECKER_LOSES,
    }
    seen = dict.fromkeys(verdicts.values(), 0)
    starts = [CHASE_SFEN, as_white(CHASE_SFEN, "")[0], "9/8k/9/9/9/9/9/r6R1/K8 b - 1"]
    for round_ in range(240):
        game = Game(starts[round_ % len(starts)], max_plies=200)
        keys = {game.board.zobrist_hash()}
        verdict = None
        while verdict is None:
            # Mostly back to a position seen before, else check, else anything.
            backs, checks = [], []
            legal = game.board.legal_moves()
            for move in legal:
                game.board.apply_move(move)
                if game.board.zobrist_hash() in keys:
                    backs.append(move.value)
                if game.board.is_in_check():
                    checks.append(move.value)
                game.board.undo_move(move)
            good = (set(backs) & set(checks)) or set(backs) or set(checks)
            anything = [move.value for move in legal]
            options = sorted(good) if good and rng.random() < 0.9 else anything
            verdict = game.play(int(rng.choice(options)))
            keys.add(game.board.zobrist_hash())
            if verdict not in (MATE, PLY_CAP):
                assert verdict == verdicts[str(game.board.repetition_state())]
                seen[verdict] += 1
    assert min(seen.values()) > 20, seen


# Declaration -------------------------------------------------------------------------------

# Ten pieces in the camp are worth 18 points; the hand makes up the rest. White moves first.
CAMP_SFEN = "RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 w {hand} 1"
WAIT = "5i4i"


@pytest.mark.parametrize(("hand", "verdict"), [("10P", DECLARATION), ("9P", None)])
def test_black_declares_with_28_points(hand: str, verdict: Verdict | None) -> None:
    assert play(CAMP_SFEN.format(hand=hand), WAIT) == [verdict]


@pytest.mark.parametrize(("hand", "verdict"), [("9P", DECLARATION), ("8P", None)])
def test_white_declares_with_27_points(hand: str, verdict: Verdict | None) -> None:
    assert play(*as_white(CAMP_SFEN.format(hand=hand), WAIT)) == [verdict]


def test_the_side_that_declares_has_won() -> None:
    assert DECLARATION.reward == -1.0, "reward goes to the side that played the ply"


@pytest.mark.parametrize(
    "sfen",
    [
        "RB7/4K4/SSS1GGGG1/3S5/9/9/9/9/4k4 w 11P 1",  # nine pieces in the camp
        "RB7/9/SSSSGGGG1/4K4/9/9/9/9/4k4 w 18P 1",  # the king is outside
    ],
)
def test_points_without_ten_pieces_and_the_king_in_the_camp_do_not_declare(sfen: str) -> None:
    assert play(sfen, WAIT) == [None]


@pytest.mark.parametrize(
    ("sfen", "moves"),
    # The king walks in; a king on 1b, square 1, stands still while a pawn, type 1, is dropped.
    both_colours("RB7/9/SSSSGGGG1/7K1/9/9/9/9/4k4 b 10P 1", "2d1c 5i4i")
    + both_colours("RB7/8K/SSSSGGGG1/9/9/9/9/9/4k4 b 11P 1", "P*5e 5i4i"),
)
def test_a_king_that_has_moved_into_the_camp_declares(sfen: str, moves: str) -> None:
    assert play(sfen, moves) == [None, DECLARATION]


def test_a_king_that_has_left_the_camp_does_not_declare() -> None:
    verdicts = play("RB7/9/SSSSGGGG1/9/8K/9/9/9/4k4 b 18P 1", "1e1d 5i4i 1d1c 4i5i")
    assert verdicts == [None, None, None, DECLARATION]
    verdicts = play("RB7/9/SSSSGGG1K/9/9/9/9/9/4k4 b 18P 1", "1c1d 5i4i")
    assert verdicts == [None, None]


def test_a_king_in_check_does_not_declare_until_it_has_answered() -> None:
    verdicts = play(CAMP_SFEN.format(hand="10Pp"), "P*5a 5b5a 5i4i")
    assert verdicts == [None, None, DECLARATION]


def test_no_side_declares_on_the_opponents_turn() -> None:
    sfen = CAMP_SFEN.format(hand="9P2p").replace("1/9/9", "1/4p4/9", 1)
    # Black takes a pawn and has 28 points, but declares only on its own turn.
    verdicts = play(sfen.replace(" w ", " b "), "5c5d 5i4i 5d5c 4i5i")
    assert verdicts == [None, None, None, DECLARATION]


def random_entering_king_sfen(rng: np.random.Generator) -> str:
    """A position in which Black's king and many of its pieces stand in or near the camp."""
    grid = {int(rng.integers(63, 81)): "k"}
    for piece in ["K", *rng.permutation(list("RBGGGGSSSSNNNLLLPPPPPP"))[: rng.integers(9, 17)]]:
        square = int(rng.integers(0, 27 if rng.random() < 0.97 else 54))
        if piece in "NL" or (piece in "RBSP" and rng.random() < 0.5):
            piece = f"+{piece}"
        if square not in grid and (piece != "P" or square >= 9):
            grid[square] = piece
    rows = []
    for rank in range(9):
        row = "".join(grid.get(9 * rank + file, "1") for file in range(9))
        rows.append(row)
    hand = rng.choice(["", "R", "B", "RB"])
    return f"{'/'.join(rows)} b {hand}{rng.integers(2, 13)}P 1"


def test_declarations_are_cshogis_on_thousands_of_positions() -> None:
    rng = np.random.default_rng(13)
    num_declared = num_seen = 0
    while num_seen < 3000:
        sfen = random_entering_king_sfen(rng)
        if "K" not in sfen or not Board(sfen).is_valid():
            continue
        num_seen += 1
        for turn, text in enumerate((sfen, Board(sfen).to_sfen_flipped())):
            expected = cshogi.Board(text).is_nyugyoku(cshogi.LAW_27)
            assert can_declare(Board(text), turn) == expected, text
            num_declared += expected
    assert 600 < num_declared < 5000


# Ply cap and precedence --------------------------------------------------------------------


def test_the_ply_cap_cuts_the_game() -> None:
    assert play(STANDARD_SFEN, "7g7f 3c3d 2g2f", max_plies=3) == [None, None, PLY_CAP]


def test_a_decision_on_the_cap_ply_is_a_decision() -> None:
    assert play("4k4/9/4P4/9/9/9/9/9/4K4 b G 1", "G*5b", max_plies=1) == [MATE]
    shuffles = " ".join([SHUFFLE] * 3)
    assert play(STANDARD_SFEN, shuffles, max_plies=12)[-1] == REPETITION
    assert play(CHASE_SFEN, " ".join([CHASE] * 3), max_plies=12)[-1] == CHECKED_WINS
    assert play(CAMP_SFEN.format(hand="10P"), WAIT, max_plies=1) == [DECLARATION]


# Starting a game ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sfen", "fault"),
    [
        ("not a position", "not an SFEN"),
        ("4k4/9/9/9/9/9/9/9/9 b - 1", "Black king is missing"),
        ("4k4/9/9/9/9/9/9/9/4K4 b 3R 1", r"count for rook: 3 \(limit 2\); .* for rook: 3"),
        ("4k4/9/9/9/9/9/9/9/4K4 b 19P 1", "hand count for pawn: 19"),
        ("4k4/4R4/9/9/9/9/9/9/4K4 b - 1", "could take the king"),
        ("4k4/4G4/4P4/9/9/9/9/9/4K4 w - 1", "is mated"),
        (CAMP_SFEN.format(hand="10P").replace(" w ", " b "), "won by declaration"),
        (STANDARD_SFEN[:-1] + "10001", r"the move number is 10001. Expected at most 10000\.$"),
        (STANDARD_SFEN[:-1] + "65535", r"the move number is 65535. Expected at most 10000\.$"),
    ],
)
def test_a_start_position_without_a_game_is_refused(sfen: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        check_start(sfen)


def test_a_start_position_may_come_late_in_a_game() -> None:
    check_start(STANDARD_SFEN[:-1] + str(MAX_START_PLY))


def test_openings_have_every_length_and_never_end_the_game() -> None:
    # One legal move in six of the first side mates.
    sfen = "8k/9/6NG1/9/9/9/9/9/4K4 b 2L4S 1"
    lengths = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        game = open_game(sfen, rng, random_opening_plies=3, max_plies=50)
        assert len(game.moves) == game.opening_plies
        replayed = replay_game(sfen, game.moves_usi().split(), max_plies=50)
        assert replayed.legal, "the opening left a side without moves"
        lengths.append(game.opening_plies)
    assert set(lengths) == {0, 1, 2, 3}


def test_an_opening_with_an_illegal_move_or_without_a_game_left_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'7g7e' \(ply 1\)"):
        play_opening(Opening(STANDARD_SFEN, "7g7e"), max_plies=10)
    with pytest.raises(ValueError, match=r"these moves end the game: max_plies at ply 1"):
        play_opening(Opening(STANDARD_SFEN, "7g7f"), max_plies=1)
    with pytest.raises(ValueError, match=r"'3c3d' \(ply 2\) comes after the end"):
        play_opening(Opening(STANDARD_SFEN, "7g7f 3c3d"), max_plies=1)
