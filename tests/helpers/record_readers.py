"""Other programs' readers of game records: cshogi, python-shogi and tsshogi.

What each of them cannot read is in docs/evaluate.md.
"""

import functools
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cshogi
import cshogi.CSA
import cshogi.KIF
import numpy as np
import shogi.CSA
import shogi.KIF

from tests.helpers.record_corpus import HCPE3_GAME, HCPE3_MOVE, HCPE3_VISIT

HERE = Path(__file__).parent


@dataclass(frozen=True)
class ReadGame:
    """A game as one reader has understood it."""

    names: list[str]
    """Names of Black and of White."""
    sfen: str
    """Board, side to move and hands at the start, without the ply number."""
    moves: str
    """Moves in USI notation."""
    result: str | None
    """Result as in `PlayedGame.result`, with draw for truncated; None: the reader sees none."""


def read_by_cshogi(path: Path) -> ReadGame:
    if path.suffix == ".csa":
        (game,) = cshogi.CSA.Parser.parse_file(str(path), encoding="utf-8")
    else:
        game = cshogi.KIF.Parser.parse_file(str(path))
    results = {cshogi.BLACK_WIN: "black_win", cshogi.WHITE_WIN: "white_win", cshogi.DRAW: "draw"}
    moves = " ".join([cshogi.move_to_usi(move) for move in game.moves])
    return ReadGame(list(game.names), _position(game.sfen), moves, results.get(game.win))


def read_by_python_shogi(path: Path) -> ReadGame:
    if path.suffix == ".csa":
        (game,) = shogi.CSA.Parser.parse_str(path.read_text(encoding="utf-8"))
    else:
        (game,) = shogi.KIF.Parser.parse_file(str(path))
    results = {"b": "black_win", "w": "white_win", "-": "draw"}
    return ReadGame(
        game["names"], _position(game["sfen"]), " ".join(game["moves"]), results.get(game["win"])
    )


def comments_by_cshogi(path: Path) -> list[str]:
    """Comments of a KIF file: before the first move, and after each."""
    game = cshogi.KIF.Parser.parse_file(str(path))
    return [game.comment, *(comment or "" for comment in game.comments)]


def comments_by_tsshogi(path: Path) -> list[str]:
    """The same as tsshogi reads them."""
    (game,) = json.loads(_node(str(HERE / "read_with_tsshogi.cjs"), str(path)).stdout)
    comments: list[str] = game["comments"]
    return comments[: len(game["moves"]) + 1]


def read_by_tsshogi(paths: Sequence[Path]) -> list[ReadGame]:
    """Reads all files in one process of Node."""
    games = json.loads(_node(str(HERE / "read_with_tsshogi.cjs"), *map(str, paths)).stdout)
    return [_from_tsshogi(game) for game in games]


@functools.cache
def has_tsshogi() -> bool:
    """Whether Node is on this machine and finds the package."""
    if shutil.which("node") is None:
        return False
    resolve = f"require.resolve('tsshogi', {{paths: [{json.dumps(str(HERE))}]}})"
    return _node("-e", resolve, check=False).returncode == 0


def _node(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", *arguments], capture_output=True, encoding="utf-8", check=check, timeout=120
    )


def _from_tsshogi(game: dict[str, Any]) -> ReadGame:
    assert "error" not in game, game["error"]
    return ReadGame(game["names"], _position(game["sfen"]), " ".join(game["moves"]), game["result"])


def _position(sfen: str) -> str:
    """Board, side to move and hands in one spelling."""
    return " ".join(cshogi.Board(sfen).sfen().split()[:3])


def hcpe3_moves(path: Path) -> list[list[tuple[str, int, dict[str, int]]]]:
    """Reads hcpe3 as dlshogi's scripts do: move, evaluation, visits of each move of each game."""
    content, at, games = path.read_bytes(), 0, []
    while at < len(content):
        (head,) = np.frombuffer(content, HCPE3_GAME, 1, at)
        at += HCPE3_GAME.itemsize
        board, moves = cshogi.Board(), []
        board.set_hcp(np.array([head["hcp"]]))
        for _ in range(head["moveNum"]):
            (played,) = np.frombuffer(content, HCPE3_MOVE, 1, at)
            at += HCPE3_MOVE.itemsize
            rows = np.frombuffer(content, HCPE3_VISIT, played["candidateNum"], at)
            at += rows.nbytes
            move = board.move_from_move16(played["selectedMove16"])
            visits = {
                cshogi.move_to_usi(board.move_from_move16(row["move16"])): int(row["visitNum"])
                for row in rows
            }
            moves.append((cshogi.move_to_usi(move), int(played["eval"]), visits))
            board.push(move)
        games.append(moves)
    return games
