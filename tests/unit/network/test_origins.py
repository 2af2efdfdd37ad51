"""The policy's second look, at the square that a move comes from."""

from array import array

import numpy as np
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.origins import line_rows, num_board_labels
from keisei_ray.shogi.actions import (
    DROP_BIT,
    LABEL_OF_MOVE,
    LABEL_TO_PLANE_SQUARE,
    NUM_SQUARES,
)
from keisei_ray.shogi.vector_games import VectorGames

NUM_GAMES = 40


def random_games(plies: int) -> VectorGames:
    """Games after some random plies; both sides are to move in some of them."""
    rng = np.random.default_rng(1)
    games = VectorGames(
        NUM_GAMES, max_plies=400, rng_for_game=lambda index: np.random.default_rng(index)
    )
    for _ in range(plies):
        games.step((rng.random(NUM_GAMES) * np.diff(games.legal_offsets)).astype(np.int64))
    return games


def logits_of(model: PolicyValueNet, games: VectorGames) -> np.ndarray:
    """[B, A] logits of the games' positions."""
    scalars = torch.zeros(NUM_GAMES, 3, dtype=torch.uint8)
    with torch.inference_mode():
        logits, _ = model(
            torch.from_numpy(games.boards.copy()), torch.from_numpy(games.hands.copy()), scalars
        )
    found: np.ndarray = logits.numpy()
    return found


def test_each_board_move_gets_the_logit_of_its_kind_where_the_rules_say_it_comes_from() -> None:
    model = build_model(ModelConfig(depth=1, width=16), seed=0)
    towers: list[torch.Tensor] = []
    model.blocks.register_forward_hook(lambda *args: towers.append(args[2]))
    board_moves = knights = drops = 0
    for plies in (0, 1, 40, 41, 100, 181):
        games = random_games(plies)
        added = logits_of(model, games)
        with torch.no_grad():
            by_origin = model.origins.logits(towers[-1]).flatten(2).numpy()
            kept = [p.clone() for p in model.origins.parameters()]
            for parameter in model.origins.parameters():
                parameter.zero_()
        added = added - logits_of(model, games)
        with torch.no_grad():
            for parameter, values in zip(model.origins.parameters(), kept, strict=True):
                parameter.copy_(values)
        assert np.abs(by_origin).max() > 0.01
        for lane in range(NUM_GAMES):
            game = games.game(lane)
            for move in array("H", game.legal):
                label = LABEL_OF_MOVE[game.turn, move]
                if move & DROP_BIT:
                    assert added[lane, label] == 0
                    drops += 1
                    continue
                seen = move >> 7 & 127
                origin = NUM_SQUARES - 1 - seen if game.turn else seen
                kind = LABEL_TO_PLANE_SQUARE[label] // NUM_SQUARES
                np.testing.assert_allclose(
                    added[lane, label], by_origin[lane, kind, origin], atol=1e-6
                )
                board_moves += 1
                knights += kind % 10 >= 8
    assert board_moves > 5_000
    assert knights > 50
    assert drops > 500


def test_without_origins_the_network_is_as_it_was_before_them() -> None:
    model = build_model(ModelConfig(depth=1, width=16, origins=False), seed=0)
    assert not any(name.startswith("origins") for name in model.state_dict())
    assert any(
        name.startswith("origins")
        for name in build_model(ModelConfig(depth=1, width=16), seed=0).state_dict()
    )


def test_the_layer_is_the_only_weight() -> None:
    model = build_model(ModelConfig(depth=1, width=16), seed=0)
    names = {name for name in model.state_dict() if name.startswith("origins")}
    assert names == {"origins.logits.weight", "origins.logits.bias"}


def test_every_label_of_a_board_move_has_an_origin_that_its_kind_can_come_from() -> None:
    kinds, targets = np.divmod(LABEL_TO_PLANE_SQUARE[: num_board_labels()], NUM_SQUARES)
    assert kinds.max() == 19
    rows = line_rows()[kinds % 10, targets]
    jumps = kinds % 10 >= 8
    np.testing.assert_array_equal(rows[~jumps] // 8, targets[~jumps])
    origins = rows[jumps] - 8 * NUM_SQUARES
    assert (origins % 9 - targets[jumps] % 9 == 2).all()
    assert set((targets[jumps] // 9 - origins // 9).tolist()) == {-1, 1}


def test_gradients_reach_the_square_that_a_move_comes_from() -> None:
    """Move 7g7f, by the pawn on 7g, which is file 6 and rank 6 where both count from 0."""
    model = build_model(ModelConfig(depth=1, width=16), seed=0)
    towers: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        output.retain_grad()
        towers.append(output)

    model.blocks.register_forward_hook(keep)
    games = random_games(0)
    boards = torch.from_numpy(games.boards.copy())
    hands = torch.from_numpy(games.hands.copy())
    logits, _ = model(boards, hands, torch.zeros(NUM_GAMES, 3, dtype=torch.uint8))
    push = int(np.flatnonzero(LABEL_TO_PLANE_SQUARE == 6 * 9 + 5)[0])
    logits[:, push].sum().backward()
    grad = towers[0].grad
    assert grad is not None
    expected = torch.zeros_like(grad)
    expected[:, :, 6, 5] = model.policy_head.weight[0, :, 0, 0]
    expected[:, :, 6, 6] = model.origins.logits.weight[0, :, 0, 0]
    torch.testing.assert_close(grad, expected)
