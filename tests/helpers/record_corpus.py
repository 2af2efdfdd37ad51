"""A game written by other programs in every format that records are read in."""

from pathlib import Path

import cshogi
import cshogi.CSA
import cshogi.KI2
import cshogi.KIF
import numpy as np
import shogi.KIF

MOVES = "7g7f 3c3d 8h2b+ 3a2b B*4e 5a6b 4e3d 4c4d 3d5b+ 6b5b 3i3h 8c8d".split()  # noqa: SIM905
"""A game that White has won: Black resigns."""
EVALS = (10, -20, 350, -30, 5, 40, 100, -50, -900, 950, -1000, 1100)
"""Evaluation before each move, for its mover."""
SEEN_BY_BLACK = tuple(value if ply % 2 == 0 else -value for ply, value in enumerate(EVALS))


def csa_by_cshogi(path: Path, games: int = 1) -> Path:
    writer, board = cshogi.CSA.Exporter(str(path), encoding="utf-8"), cshogi.Board()
    for number in range(games):
        board.reset()
        writer.info(
            init_board=board,
            names=["a", "b"],
            comment=f"'black_rate:a+0123:{2500 + number}.5\n'white_rate:b+4567:2600.0\n",
            version="V2.2",
        )
        for usi, value in zip(MOVES[: len(MOVES) - number], SEEN_BY_BLACK, strict=False):
            move = board.push_usi(usi)
            writer.move(move, time=1, comment=f"** {value} +7776FU")
        writer.endgame("%TORYO")
    writer.close()
    return path


def kif_by_cshogi(path: Path) -> Path:
    writer, board = cshogi.KIF.Exporter(str(path)), cshogi.Board()
    writer.header(["a", "b"])
    for usi in MOVES:
        writer.move(board.push_usi(usi))
    writer.end("resign")
    writer.close()
    return path


def kif_by_python_shogi(path: Path) -> Path:
    summary = {"names": ["a", "b"], "sfen": cshogi.STARTING_SFEN, "moves": MOVES, "win": "w"}
    path.write_bytes(shogi.KIF.Exporter.kif(summary).encode("cp932"))
    return path


def ki2_by_cshogi(path: Path) -> Path:
    writer = cshogi.KI2.Exporter(str(path))
    writer.header(["a", "b"])
    board = cshogi.Board()
    for usi in MOVES:
        writer.move(board.move_from_usi(usi))
        board.push_usi(usi)
    writer.end("%TORYO")
    writer.close()
    return path


def hcpe_by_cshogi(path: Path) -> Path:
    rows, board = np.zeros(len(MOVES), cshogi.HuffmanCodedPosAndEval), cshogi.Board()
    for ply, usi in enumerate(MOVES):
        move = board.move_from_usi(usi)
        board.to_hcp(rows[ply : ply + 1]["hcp"])
        rows[ply]["bestMove16"] = cshogi.move16(move)
        rows[ply]["eval"] = EVALS[ply]
        rows[ply]["gameResult"] = cshogi.WHITE_WIN
        board.push(move)
    rows.tofile(path)
    return path


VISITS = {0: {"7g7f": 30, "2g2f": 9, "9g9f": 1}, 1: {"8c8d": 5, "3c3d": 5}, 3: {}}
"""Visits before some moves of the game; before the others the move that was played has them all."""
HCPE3_GAME = np.dtype([
    ("hcp", cshogi.dtypeHcp), ("moveNum", np.uint16), ("result", np.uint8), ("opponent", np.uint8),
])  # fmt: skip
HCPE3_MOVE = np.dtype([
    ("selectedMove16", cshogi.dtypeMove16), ("eval", cshogi.dtypeEval), ("candidateNum", np.uint16),
])  # fmt: skip
HCPE3_VISIT = np.dtype([("move16", cshogi.dtypeMove16), ("visitNum", np.uint16)])


def hcpe3_by_cshogi(path: Path, result: int = cshogi.WHITE_WIN) -> Path:
    """Writes the game as dlshogi's scripts do, by the types that they declare."""
    board, head = cshogi.Board(), np.zeros(1, HCPE3_GAME)
    board.to_hcp(head["hcp"])
    head["moveNum"], head["result"] = len(MOVES), result
    parts = [head.tobytes()]
    for ply, usi in enumerate(MOVES):
        visits = VISITS.get(ply, {usi: 100})
        played, rows = np.zeros(1, HCPE3_MOVE), np.zeros(len(visits), HCPE3_VISIT)
        played["selectedMove16"] = cshogi.move16(board.move_from_usi(usi))
        played["eval"], played["candidateNum"] = EVALS[ply], len(visits)
        rows["move16"] = [cshogi.move16(board.move_from_usi(move)) for move in visits]
        rows["visitNum"] = list(visits.values())
        parts += [played.tobytes(), rows.tobytes()]
        board.push_usi(usi)
    path.write_bytes(b"".join(parts))
    return path


def psv_by_cshogi(path: Path) -> Path:
    rows, board = np.zeros(len(MOVES), cshogi.PackedSfenValue), cshogi.Board()
    for ply, usi in enumerate(MOVES):
        move = board.move_from_usi(usi)
        board.to_psfen(rows[ply : ply + 1]["sfen"])
        rows[ply]["move"] = cshogi.move16_to_psv(cshogi.move16(move))
        rows[ply]["score"] = EVALS[ply]
        rows[ply]["gamePly"] = ply + 1
        rows[ply]["game_result"] = -1 if ply % 2 == 0 else 1
        board.push(move)
    rows.tofile(path)
    return path
