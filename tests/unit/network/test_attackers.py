"""Attackers of every square: against the rules library, a slow walk and swapped colours."""

import itertools

import numpy as np
import pytest
import torch
from rsshogi.core import Board
from rsshogi.types import Color, Square

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.attackers import (
    KNIGHT_MOTIONS,
    MOTIONS,
    NO_ATTACKER,
    NUM_SLOTS,
    NUM_VECTORS,
    Attackers,
    bags_of_vectors,
    sum_of_vectors,
)
from keisei_ray.network.model import build_model
from keisei_ray.rollouts.rollout import NUM_PIECE_CODES
from keisei_ray.shogi.observation import observe
from keisei_ray.shogi.vector_games import VectorGames

OPPONENTS = 14
# Steps of an own piece as (files, ranks): forward is towards rank 0, so a negative rank.
GOLD = {(0, -1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1)}
KING = set(itertools.product((-1, 0, 1), (-1, 0, 1))) - {(0, 0)}
ROOK = {(0, 1), (0, -1), (1, 0), (-1, 0)}
BISHOP = {(1, 1), (1, -1), (-1, 1), (-1, -1)}
RULES: dict[int, tuple[set[tuple[int, int]], set[tuple[int, int]]]] = {
    1: ({(0, -1)}, set()),
    2: (set(), {(0, -1)}),
    3: ({(1, -2), (-1, -2)}, set()),
    4: ({(0, -1)} | BISHOP, set()),
    5: (set(), BISHOP),
    6: (set(), ROOK),
    7: (GOLD, set()),
    8: (KING, set()),
    9: (GOLD, set()),
    10: (GOLD, set()),
    11: (GOLD, set()),
    12: (GOLD, set()),
    13: (ROOK, BISHOP),
    14: (BISHOP, ROOK),
}
"""Piece type (P L N S B R G K +P +L +N +S +B +R) -> single steps, and directions without end."""

Attack = tuple[int, int, int]
"""(square attacked, square of the attacker, its code)."""


def indices_of(boards: np.ndarray) -> np.ndarray:
    """[B, 81, 12] indices of vectors."""
    indices, _ = Attackers()(torch.from_numpy(np.ascontiguousarray(boards)))
    assert indices.shape == (len(boards), 81, NUM_SLOTS)
    found: np.ndarray = indices.numpy()
    return found


def attacks_of(board: np.ndarray, indices: np.ndarray) -> set[Attack]:
    """Attacks that the indices of one board stand for; attackers are found by walking back.

    Each index names a direction (or a knight's jump) and a piece, each at most once a square.
    """
    found = set()
    for square, slot in np.argwhere(indices != NO_ATTACKER).tolist():
        index = int(indices[square, slot])
        assert index < NUM_VECTORS
        file, rank = divmod(square, 9)
        if index >= 8 * NUM_PIECE_CODES:
            which = index - 8 * NUM_PIECE_CODES
            motion = KNIGHT_MOTIONS[which % 2]
            code = 3 if which < 2 else 3 + OPPONENTS
            step = motion if which < 2 else (motion[0], -motion[1])
            file, rank = file - step[0], rank - step[1]
        else:
            direction, code = divmod(index, NUM_PIECE_CODES)
            step = MOTIONS[direction]
            file, rank = file - step[0], rank - step[1]
            while board[file * 9 + rank] == 0:
                file, rank = file - step[0], rank - step[1]
                assert 0 <= file < 9
                assert 0 <= rank < 9
        source = file * 9 + rank
        assert board[source] == code
        assert (square, source, code) not in found
        found.add((square, source, code))
    return found


def by_hand(board: np.ndarray) -> set[Attack]:
    """Every piece moved along every line of the rules, square by square."""
    found = set()
    for source in np.flatnonzero(board).tolist():
        code = int(board[source])
        is_own = code <= OPPONENTS
        steps, slides = RULES[code if is_own else code - OPPONENTS]
        for files, ranks in steps | slides:
            file, rank = divmod(source, 9)
            while True:
                file, rank = file + files, rank + (ranks if is_own else -ranks)
                if not (0 <= file < 9 and 0 <= rank < 9):
                    break
                found.add((file * 9 + rank, source, code))
                if (files, ranks) not in slides or board[file * 9 + rank]:
                    break
    return found


def random_boards(count: int, seed: int = 0) -> np.ndarray:
    """[count, 81] any pieces anywhere, from almost empty to full boards."""
    rng = np.random.default_rng(seed)
    pieces = rng.integers(1, NUM_PIECE_CODES, (count, 81))
    density = np.linspace(0.01, 1, count)[:, None]
    return np.where(rng.random((count, 81)) < density, pieces, 0).astype(np.uint8)


def positions_of_random_games(num_games: int, every: int, plies: int) -> list[str]:
    """SFENs from random games, both sides to move."""
    rng = np.random.default_rng(1)
    games = VectorGames(
        num_games, max_plies=plies + 1, rng_for_game=lambda index: np.random.default_rng(index)
    )
    sfens = []
    for ply in range(plies):
        if ply % every == 0:
            sfens += [games.current_sfen(lane) for lane in range(num_games)]
        games.step((rng.random(num_games) * np.diff(games.legal_offsets)).astype(np.int64))
    return sfens


def test_every_attack_of_any_board_is_found_with_its_piece_and_line_and_none_besides() -> None:
    boards = random_boards(400)
    indices = indices_of(boards)
    total = 0
    for board, found in zip(boards, indices, strict=True):
        expected = by_hand(board)
        assert attacks_of(board, found) == expected
        total += len(expected)
    assert total > 20_000


def test_each_piece_alone_on_each_square_attacks_what_the_rules_say() -> None:
    boards = np.zeros((28 * 81, 81), np.uint8)
    codes, squares = np.divmod(np.arange(28 * 81), 81)
    boards[np.arange(28 * 81), squares] = codes + 1
    for board, found in zip(boards, indices_of(boards), strict=True):
        assert attacks_of(board, found) == by_hand(board)


@pytest.mark.slow
def test_the_rules_library_sees_the_same_attackers_in_thousands_of_positions() -> None:
    """The library's bitboards of attackers, for either colour, from the side to move."""
    sfens = positions_of_random_games(num_games=25, every=3, plies=300)
    boards = [Board(sfen) for sfen in sfens]
    seen = np.stack([observe(board).board for board in boards])
    indices = indices_of(seen)
    assert len(boards) >= 2_500
    assert {board.turn for board in boards} == {Color.BLACK, Color.WHITE}
    total = 0
    for board, codes, found in zip(boards, seen, indices, strict=True):
        is_black = board.turn == Color.BLACK
        ours: dict[tuple[int, bool], set[int]] = {}
        for square, source, code in attacks_of(codes, found):
            by_mover = code <= OPPONENTS
            places = (square, source) if is_black else (80 - square, 80 - source)
            ours.setdefault((places[0], by_mover == is_black), set()).add(places[1])
        for square, (by_black, color) in itertools.product(
            range(81), ((True, Color.BLACK), (False, Color.WHITE))
        ):
            bitboard = board.attackers_to_color_current(color, Square(square))
            assert bitboard.count() == len(ours.get((square, by_black), ()))
            while not bitboard.is_empty():
                attacker = bitboard.pop_lsb()
                assert attacker is not None
                assert attacker.value in ours[square, by_black]
                total += 1
    assert total > 100_000


def test_the_other_colours_turned_board_has_the_turned_attackers() -> None:
    boards = random_boards(200, seed=3)
    turned = boards[:, ::-1]
    turned = np.where(turned == 0, 0, (turned + OPPONENTS - 1) % 28 + 1).astype(np.uint8)
    pairs = zip(boards, indices_of(boards), turned, indices_of(turned), strict=True)
    for board, found, other, other_found in pairs:
        swapped = {
            (80 - square, 80 - source, (code + OPPONENTS - 1) % 28 + 1)
            for square, source, code in attacks_of(board, found)
        }
        assert attacks_of(other, other_found) == swapped


def test_a_boards_attackers_do_not_depend_on_the_others() -> None:
    boards = random_boards(50, seed=4)
    together = indices_of(boards)
    for k in range(50):
        np.testing.assert_array_equal(indices_of(boards[k : k + 1])[0], together[k])


@pytest.mark.parametrize("rows", [1, 7])
def test_the_stem_adds_up_the_vectors_of_the_attackers(rows: int) -> None:
    model = build_model(ModelConfig(depth=1, width=16, attackers=True), seed=0)
    with torch.no_grad():
        model.attacker_vectors[NO_ATTACKER] = 1e6  # Of no attacker nothing is added.
    without = build_model(ModelConfig(depth=1, width=16, attackers=False), seed=0)
    without.load_state_dict(
        {k: v for k, v in model.state_dict().items() if k != "attacker_vectors"}, strict=True
    )
    stems: list[torch.Tensor] = []
    for network in (model, without):
        network.blocks.register_forward_pre_hook(lambda _, args: stems.append(args[0]))
        network.activation = torch.nn.Identity()
    boards = random_boards(200, seed=5)[::-1][:rows].copy()
    rest = torch.zeros(rows, 14, dtype=torch.uint8), torch.zeros(rows, 3, dtype=torch.uint8)
    with torch.no_grad():
        for network in (model, without):
            network(torch.from_numpy(boards), *rest)
    vectors = model.attacker_vectors.detach().double().numpy()
    expected = np.zeros((rows, 81, 16))
    for row, board in enumerate(boards):
        for square, source, code in by_hand(board):
            files, ranks = np.divmod(square, 9) - np.array(divmod(source, 9))
            if code % OPPONENTS == 3:
                own = code == 3
                which = KNIGHT_MOTIONS.index((files, ranks if own else -ranks))
                index = 8 * NUM_PIECE_CODES + which + (0 if own else 2)
            else:
                motion = (int(np.sign(files)), int(np.sign(ranks)))
                index = MOTIONS.index(motion) * NUM_PIECE_CODES + code
            expected[row, square] += vectors[index]
    added = (stems[0] - stems[1]).reshape(rows, 16, 81).permute(0, 2, 1)
    np.testing.assert_allclose(added.numpy(), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.5


def test_attackers_are_not_weights() -> None:
    model = build_model(ModelConfig(depth=1, width=16, attackers=True), seed=0)
    names = set(model.state_dict())
    assert "attacker_vectors" in names
    assert not any(name.startswith("attackers.") for name in names)


@pytest.mark.parametrize("rows", [1, 7])
def test_vectors_get_the_gradients_that_the_librarys_own_pass_gives_them(rows: int) -> None:
    indices, _ = Attackers()(torch.from_numpy(random_boards(200, seed=6)[:rows].copy()))
    slots = indices.flatten(0, 1)
    vectors = torch.randn(NUM_VECTORS, 16, generator=torch.Generator().manual_seed(0))
    downstream = torch.randn(len(slots), 16, generator=torch.Generator().manual_seed(1))
    found: list[torch.Tensor] = []
    expected: list[torch.Tensor] = []
    for add, grads in ((sum_of_vectors, found), (bags_of_vectors, expected)):
        leaf = vectors.clone().requires_grad_()
        total = add(slots, leaf)
        grads += [total.detach(), *torch.autograd.grad(total, leaf, downstream)]
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1], expected[1])
    assert not found[1][NO_ATTACKER].any()
    assert found[1].any()


def test_boards_without_attackers_give_the_vectors_no_gradient() -> None:
    indices, _ = Attackers()(torch.zeros(2, 81, dtype=torch.uint8))
    vectors = torch.ones(NUM_VECTORS, 16, requires_grad=True)
    total = sum_of_vectors(indices.flatten(0, 1), vectors)
    assert not total.any()
    (grad,) = torch.autograd.grad(total.sum(), vectors)
    assert not grad.any()
