"""Mate problems, positions of random games, and mates by brute force."""

from array import array

import numpy as np
from rsshogi.core import Board

from keisei_ray.shogi.game import STANDARD_SFEN, Game

MAX_PLIES = 300


def played(seed: int, plies: int) -> Game:
    """A game after some random plies."""
    rng = np.random.default_rng(seed)
    while True:
        game = Game(STANDARD_SFEN, max_plies=MAX_PLIES)
        verdicts = [
            game.play(int(rng.choice(array("H", game.legal)))) if game.legal else "over"
            for _ in range(plies)
        ]
        if verdicts.count(None) == plies:
            return game


def is_mate_in(board: Board, plies: int) -> bool:
    """Brute force: whether checks alone force mate in so many plies."""
    if board.solve_mate_in_one() is not None:
        return True
    if plies == 1:
        return False
    for move in board.legal_moves():
        board.apply_move(move)
        replies = board.legal_moves() if board.is_in_check() else []
        is_forced = bool(replies)
        for reply in replies:
            board.apply_move(reply)
            is_forced = is_mate_in(board, plies - 2)
            board.undo_move(reply)
            if not is_forced:
                break
        board.undo_move(move)
        if is_forced:
            return True
    return False


MATES = [
    # Plies, simulations that suffice without any knowledge, position.
    (3, 3000, "5+R1nl/1gk6/1p2g2pp/1Sp6/9/4P2P1/6P1P/4K3L/1+l4+nN1 b 2BGS6Prg2snl4p 85"),
    (3, 1000, "3k1n1G1/ng2s2LB/4gp1+N1/1p7/2p5S/4g2P1/6P1P/p3K1b1L/P+l5+n1 w SL7P2rs3p 118"),
    (5, 3000, "9/lpnsg2Pg/p1bpk3+P/2P1rP1r1/1P4P1p/G2Np1N1L/P1SPPK3/L3S2p1/1NBS1G2P w Plp 164"),
    (5, 3000, "7l1/r2r+S1PBl/1+Lp1P1p2/1G2kp3/1n2pPG1P/PGP6/SpNG1N+s1p/p2SK2p1/L1NP1+p3 b BPp 199"),
]
"""Those of five plies are from games of random legal moves. Of eight such problems three were
proven with 3,000 simulations, two more with 10,000, and two more with 30,000."""
