"""Identity of games: a hash that is the same in every format, wherever the record begins."""

import hashlib
from array import array

import numpy as np

from keisei_ray.shogi.game_record import GameRecord, after_opening


def game_hash(game: GameRecord) -> int:
    """Returns 64 bits of a hash of the position after the opening and the moves from there on.

    Some formats hold a game from its start, others begin where the players do, after an opening
    that neither chose: the hash is the same. A record that begins later than that is another game.
    """
    start, moves = after_opening(game)
    packed = np.frombuffer(array("H", moves), np.uint16).astype("<u2").tobytes()
    text = " ".join(start.split()[:3]).encode()
    return int.from_bytes(hashlib.blake2b(text + packed, digest_size=8).digest(), "big")
