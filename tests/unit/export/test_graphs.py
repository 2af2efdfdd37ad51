"""The form for engines of dlshogi, against the features and labels of cshogi."""

import cshogi
import numpy as np
import pytest
import torch
from cshogi.dlshogi import FEATURES1_NUM, FEATURES2_NUM, make_input_features, make_move_label

from keisei_ray.export.checking import dlshogi_planes
from keisei_ray.export.graphs import DLSHOGI_PIECES, DLSHOGI_PLANES, DlshogiGraph
from keisei_ray.library.player import NetworkPlayer
from keisei_ray.shogi.game import Game
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.networks import shaken_model

IN_CHECK = "4k4/9/9/9/4r4/9/9/9/4K4 b B2G2S2N2L8Pb2g2s2n2l8p 1"
NINE_PAWNS = "4k4/9/9/9/9/9/9/9/4K4 b 9P9p 1"


def random_sfens(num: int) -> list[str]:
    games = VectorGames(
        num, max_plies=200, rng_for_game=np.random.default_rng, random_opening_plies=160
    )
    return [games.current_sfen(lane) for lane in range(num)]


def features(sfens: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    first = np.zeros((len(sfens), FEATURES1_NUM, 9, 9), np.float32)
    second = np.zeros((len(sfens), FEATURES2_NUM, 9, 9), np.float32)
    for row, sfen in enumerate(sfens):
        make_input_features(cshogi.Board(sfen), first[row], second[row])
    return torch.from_numpy(first), torch.from_numpy(second)


@pytest.mark.parametrize("kind", ["plain", "attackers", "origins", "scalar"])
@torch.no_grad()
def test_from_planes_of_dlshogi_the_network_finds_the_same_policy_and_value(kind: str) -> None:
    """On positions without history: an SFEN has none, and neither have the planes."""
    model, sfens = shaken_model(kind), [IN_CHECK, *random_sfens(48)]
    policy, scores = DlshogiGraph(model)(*features(sfens))
    assert policy.shape == (49, 2187)
    assert scores.shape == (49, 1)
    known = NetworkPlayer(model, "", 0, None).evaluate(sfens)
    num_checks = num_promotions = num_drops = 0
    for row, (sfen, expected) in enumerate(zip(sfens, known, strict=True)):
        board = cshogi.Board(sfen)
        num_checks += board.is_check()
        labels = {cshogi.move_to_usi(m): make_move_label(m, board.turn) for m in board.legal_moves}
        assert set(labels) == set(expected.policy)
        assert len(set(labels.values())) == len(labels)
        num_promotions += sum(usi.endswith("+") for usi in labels)
        num_drops += sum("*" in usi for usi in labels)
        probs = torch.softmax(policy[row, list(labels.values())].double(), 0).tolist()
        assert dict(zip(labels, probs, strict=True)) == pytest.approx(expected.policy, abs=1e-5)
        assert float(scores[row, 0]) == pytest.approx(expected.win + expected.draw / 2, abs=1e-5)
    assert num_checks > 0
    assert num_promotions > 50
    assert num_drops > 50


def test_the_planes_that_the_check_makes_are_those_of_cshogi() -> None:
    sfens = [IN_CHECK, *random_sfens(16)]
    first, second = features(sfens)
    games = [Game(sfen, max_plies=9).observe() for sfen in sfens]
    made1, made2 = dlshogi_planes(*(np.stack(part) for part in zip(*games, strict=True)))
    for side in range(2):
        pieces = slice(side * DLSHOGI_PLANES, side * DLSHOGI_PLANES + DLSHOGI_PIECES)
        np.testing.assert_array_equal(made1[:, pieces], first[:, pieces])
    np.testing.assert_array_equal(made2, second)


@torch.no_grad()
def test_a_ninth_pawn_in_hand_is_not_seen() -> None:
    model = shaken_model("plain")
    nine, eight = (
        DlshogiGraph(model)(*features([sfen]))
        for sfen in (NINE_PAWNS, NINE_PAWNS.replace("9P9p", "8P8p"))
    )
    assert torch.equal(nine[0], eight[0])
