"""Mates by checks, as in a mate problem (tsume shogi): a proof by the rules, without a network.

Proof-number search (Allis, van der Meulen, van den Herik 1994, "Proof-number search"). The
attacker plays checks only and needs one move that mates; the defender plays any legal move and
needs one that escapes. Every position bears two numbers, the positions that must at least be
settled before a mate is proven there and before it is disproved; each step follows the smallest
down to an open position and expands it.

The first mate found need not be the shortest, so a shorter one is then looked for, with as much
effort again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from rsshogi.core import Board, Move

from keisei_ray.shogi.game import Game
from keisei_ray.shogi.rules import FOURFOLD

NODE_BYTES: Final = 200
"""Memory of a node, with what Python and the rules library keep for it."""
_LEAST_SHORTENING: Final = 1000
"""Positions that may be expanded at least to shorten a mate."""
_NEVER: Final = 1 << 60
"""Number of what cannot be proven, or cannot be disproved."""


@dataclass(slots=True)
class _Node:
    """A position: the attacker is to move in the root, and then in every other ply."""

    move: Move | None
    """Last move; None in the root."""
    key: int
    """Key of the position."""
    to_prove: int
    """Positions to settle before a mate is proven; 0: it is, _NEVER: there is none."""
    to_disprove: int
    """Positions to settle before there is known to be none; 0: there is none."""
    children: list["_Node"] | None = None
    """Positions after the moves from here; None: open. Of a settled node only the best is kept."""
    plies: int = 0
    """Plies to the mate along the line that is kept, where one is proven."""


_TO_PROVE, _TO_DISPROVE = attrgetter("to_prove"), attrgetter("to_disprove")
_PLIES = attrgetter("plies")


@dataclass
class MateSearch:
    """Search for a mate by checks of the side to move in a game."""

    game: Game
    """Only read; play no move in it while the search goes on."""
    expanded: int = 0
    """Positions whose moves have been looked at."""
    num_nodes: int = 1
    """Nodes in memory."""
    has_mate: bool | None = None
    """Whether there is a mate by checks; None: not known yet."""
    line: list[int] = field(default_factory=list)
    """Moves of the mate, 16 bits each; empty where none is proven. The defender plays the move
    that holds out longest against what was found."""
    _board: Board = field(init=False)
    """The root position between two steps."""
    _root: _Node = field(init=False)
    _last_ply: int = field(init=False)
    """Number in the game of the last ply that may mate."""

    def __post_init__(self) -> None:
        self._board = self.game.board.copy()
        self._begin(self.game.max_plies)

    def run(self, is_over: Callable[[], bool], most_nodes: int) -> None:
        """Searches until the question is settled, and then for a shorter mate.

        Args:
            is_over: asked before every step; True ends the search early.
            most_nodes: nodes in memory that end it too.
        """
        self._settle(is_over, most_nodes)
        if not self._root.to_disprove:
            self.has_mate = False
        enough = 2 * self.expanded + _LEAST_SHORTENING
        while not self._root.to_prove:
            self.has_mate, self.line = True, _line_from(self._root)
            if len(self.line) == 1:
                return
            self._begin(len(self.game.moves) + len(self.line) - 2)
            self._settle(lambda: self.expanded >= enough or is_over(), most_nodes)

    def _begin(self, last_ply: int) -> None:
        """Forgets all nodes; from now on a mate has to come by the last ply."""
        self._last_ply, self.num_nodes = last_ply, 1
        self._root = _Node(None, self._board.zobrist_hash(), 1, 1)
        mate = self._board.solve_mate_in_one()
        if mate is not None:
            self._root = _mated_by(self._root, mate.to_move())

    def _settle(self, is_over: Callable[[], bool], most_nodes: int) -> None:
        root = self._root
        while root.to_prove and root.to_disprove and self.num_nodes < most_nodes and not is_over():
            self._step()

    def _step(self) -> None:
        """Expands the open position that decides most, and carries its numbers up to the root."""
        board, node = self._board, self._root
        path, keys = [node], {node.key}
        while node.children is not None:
            is_attack = len(path) % 2 == 1
            node = min(node.children, key=_TO_PROVE if is_attack else _TO_DISPROVE)
            assert node.move is not None
            board.apply_move(node.move)
            path.append(node)
            keys.add(node.key)
        self.expanded += 1
        ply = len(self.game.moves) + len(path)
        is_attack = len(path) % 2 == 1
        node.children = self._checks(keys, ply) if is_attack else self._evasions(keys, ply)
        self.num_nodes += _size(node.children)
        while path:
            node = path.pop()
            self._update(node, is_attack=len(path) % 2 == 0)
            if node.move is not None:
                board.undo_move(node.move)

    def _checks(self, keys: set[int], ply: int) -> list[_Node]:
        """Positions after the attacker's checks; those that cannot lead to a mate are left out.

        Args:
            keys: those of the path.
            ply: number of these moves in the game.
        """
        board, found = self._board, []
        for move in board.legal_moves():
            board.apply_move(move)
            if board.is_in_check():
                num_evasions = len(board.legal_moves())
                key = board.zobrist_hash()
                if not num_evasions:
                    found.append(_Node(move, key, 0, _NEVER, []))
                elif not self._ends_without_mate(key, keys, ply):
                    found.append(_Node(move, key, num_evasions, 1))
            board.undo_move(move)
        return found

    def _evasions(self, keys: set[int], ply: int) -> list[_Node]:
        """Positions after the defender's moves; one of them alone if it escapes.

        Args:
            keys: those of the path.
            ply: number of these moves in the game.
        """
        board, found = self._board, []
        for move in board.legal_moves():
            board.apply_move(move)
            node = _Node(move, board.zobrist_hash(), 1, 1)
            if self._ends_without_mate(node.key, keys, ply):
                node.to_prove, node.to_disprove = _NEVER, 0
            elif (mate := board.solve_mate_in_one()) is not None:
                node = _mated_by(node, mate.to_move())
            board.undo_move(move)
            if not node.to_disprove:
                return [node]
            found.append(node)
        return found

    def _ends_without_mate(self, key: int, keys: set[int], ply: int) -> bool:
        """Whether a position ends the game by the rules, or is one that the path has passed.

        A mate that passes a position twice would also begin there the first time.
        """
        return key in keys or ply >= self._last_ply or self.game.occurrences(key)[1] >= FOURFOLD

    def _update(self, node: _Node, *, is_attack: bool) -> None:
        """Sets a node's numbers by those of its children."""
        children = node.children
        assert children is not None
        if is_attack:
            node.to_prove = min(map(_TO_PROVE, children), default=_NEVER)
            node.to_disprove = min(_NEVER, sum(map(_TO_DISPROVE, children)))
        else:
            node.to_prove = min(_NEVER, sum(map(_TO_PROVE, children)))
            node.to_disprove = min(map(_TO_DISPROVE, children), default=_NEVER)
        if not node.to_prove:
            if is_attack:
                best = next(child for child in children if not child.to_prove)
            else:
                best = max(children, key=_PLIES)
            node.plies = 1 + best.plies
            node.children = [best]
        elif not node.to_disprove:
            node.children = []
        else:
            return
        self.num_nodes -= _size(children) - _size(node.children)


def _line_from(root: _Node) -> list[int]:
    """Moves, 16 bits each, that lead from a proven mate to its end."""
    line, node = [], root
    while node.children:
        node = node.children[0]
        assert node.move is not None
        line.append(node.move.value)
    return line


def _mated_by(node: _Node, move: Move) -> _Node:
    """The node as one where a move of the attacker mates at once."""
    mated = _Node(move, 0, 0, _NEVER, [])
    return _Node(node.move, node.key, 0, _NEVER, [mated], plies=1)


def _size(nodes: list[_Node]) -> int:
    """Number of these nodes and of all from them on."""
    size, left = 0, list(nodes)
    while left:
        size += 1
        left += left.pop().children or ()
    return size
