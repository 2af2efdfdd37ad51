"""A USI engine as a program: it plays the legal move that the position's checksum points to."""

import sys
import zlib

from rsshogi.core import Board

board = Board()
for line in sys.stdin:
    match line.split(maxsplit=1):
        case ["usi"]:
            print(
                "id name rule engine", "option name Depth type spin default 1 min 1 max 9", sep="\n"
            )
            print("usiok", flush=True)
        case ["isready"]:
            print("readyok", flush=True)
        case ["position", position]:
            board.set_usi_position(position.strip())
        case ["go", _]:
            moves = board.legal_moves()
            move = moves[zlib.crc32(board.to_sfen().encode()) % len(moves)]
            print("info depth 1 pv", move.to_usi())
            print("bestmove", move.to_usi(), "ponder resign", flush=True)
        case ["quit"]:
            break
