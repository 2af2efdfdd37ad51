"""The trees of N games in shared arrays: selection, expansion, backup and proofs.

A node is a position, an edge a legal move from it. Both are rows of arrays that all trees share, so
one numpy operation takes a step in every tree. Node 0 and edge 0 stand for "none". The edges of a
node are consecutive, in the order of the game's legal moves.

Values are seen from the side to move at the node: 1 won, -1 lost. What is good for a node is bad
for its parent.

A proof is an exact value: the rules ended the game there, or all that follows is proven as far as
it matters. A node is a proven win as soon as one move leads to a proven loss of the other side. It
is a proven loss or draw when every move is proven and none better.

K: paths of one step. D: length of the longest. M: most edges of a node. C: nodes added at once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.search.settings import SearchSettings

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

UNPROVEN, WON, LOST, DRAWN = range(4)
"""Proofs of a node, for its side to move."""
PROVEN_VALUES: Final = np.array([0, 1, -1, 0], np.float32)
"""Exact value of each; that of UNPROVEN has no meaning."""
NONE = 0
"""The node and the edge that do not exist."""
_VIRTUAL_LOSS = 1.0
"""Value that a node in flight counts for its own side: a win, so a loss for who chose it."""

_Fields = Mapping[str, tuple[type, tuple[int, ...]]]

_NODE_FIELDS: Final[_Fields] = {
    "first_edge": (np.int64, ()),
    "num_edges": (np.int64, ()),
    "visits": (np.int32, ()),
    "value_sums": (np.float32, ()),
    "draw_sums": (np.float32, ()),
    "own_values": (np.float32, ()),
    "proofs": (np.uint8, ()),
    "keys": (np.uint64, ()),
    "turns": (np.uint8, ()),
    "scalars": (np.int32, (3,)),
    "boards": (np.uint8, (81,)),
    "hands": (np.uint8, (14,)),
}
_EDGE_FIELDS: Final[_Fields] = {
    "moves": (np.uint16, ()),
    "priors": (np.float32, ()),
    "children": (np.int64, ()),
}

_TYPICAL_EDGES = 80
"""Edges of a node for which a reservation has room."""
_RESERVED_NODES = 512
"""Nodes, with their edges, for which there is room left when a reservation counts as full."""

_ROWS_AT_ONCE = 1 << 18
"""Rows that move in one operation when nodes are dropped."""


class Paths(NamedTuple):
    """Lines from the roots to where a step of the search ends."""

    nodes: Ints
    """[K, D + 1] nodes from the root on, NONE beyond the end."""
    edges: Ints
    """[K, D] edges between them."""
    lengths: Ints
    """[K] moves of each path; 0: the root itself."""

    @property
    def leaves(self) -> Ints:
        """[K] node at the end of each path."""
        leaves: Ints = self.nodes[np.arange(len(self.nodes)), self.lengths]
        return leaves


class Forest:
    """Nodes and edges of many trees.

    Attributes, one row for each node:
        first_edge, num_edges: its edges; none before it has been evaluated.
        visits: simulations that went through it.
        value_sums: sum of their values. draw_sums: sum of their probabilities of a draw.
        own_values: the network's value of the position itself, a draw worth `draw_value` there.
        proofs: what is proven.
        keys: of the position. turns: the side to move, 0 black, 1 white.
        scalars: as in `Observation`, but without an upper bound.
        boards, hands: the position.
    Attributes, one row for each edge:
        moves: 16-bit moves.
        priors: the policy's probability at the search's temperature.
        children: node that the move leads to, NONE before it is tried.
    """

    first_edge: Ints
    num_edges: Ints
    visits: npt.NDArray[np.int32]
    value_sums: Floats
    draw_sums: Floats
    own_values: Floats
    proofs: Bytes
    keys: npt.NDArray[np.uint64]
    turns: Bytes
    scalars: npt.NDArray[np.int32]
    boards: Bytes
    hands: Bytes
    moves: npt.NDArray[np.uint16]
    priors: Floats
    children: Ints

    def __init__(self) -> None:
        """Makes a forest without a tree."""
        self.num_nodes = self.num_edges_used = 1
        self._max_nodes: int | None = None
        self._max_edges = 0
        for name, (dtype, shape) in {**_NODE_FIELDS, **_EDGE_FIELDS}.items():
            setattr(self, name, np.zeros((1024, *shape), dtype))

    def reserve(self, num_bytes: int) -> None:
        """Makes the arrays as large as an amount of memory allows, for trees of limited size.

        The system gives the memory when it is used. Not called: arrays grow as long as they can.
        """
        edges_each = _TYPICAL_EDGES * _bytes_of(_EDGE_FIELDS)
        self._max_nodes = max(1024, num_bytes // (_bytes_of(_NODE_FIELDS) + edges_each))
        self._max_edges = _TYPICAL_EDGES * self._max_nodes
        self._grow(_NODE_FIELDS, self._max_nodes)
        self._grow(_EDGE_FIELDS, self._max_edges)

    @property
    def is_limited(self) -> bool:
        """Whether memory has been reserved."""
        return self._max_nodes is not None

    @property
    def fullness(self) -> float:
        """Share of the reserved memory that is in use, 1 where no step of a search fits any more.

        0 without a reservation.
        """
        if self._max_nodes is None:
            return 0.0
        nodes = self.num_nodes / (self._max_nodes - _RESERVED_NODES)
        edges = self.num_edges_used / (self._max_edges - _RESERVED_NODES * _TYPICAL_EDGES)
        return min(1.0, max(nodes, edges))

    def add_nodes(self, number: int) -> Ints:
        """Adds nodes without edges or visits; returns their indices."""
        start, self.num_nodes = self.num_nodes, self.num_nodes + number
        self._grow(_NODE_FIELDS, self.num_nodes)
        return np.arange(start, self.num_nodes)

    def expand(
        self,
        nodes: Ints,
        legal: list[bytes],
        labels: Ints,
        logits: Floats,
        temperature: float = 1.0,
    ) -> None:
        """Gives nodes their edges, with the policy's probabilities.

        Args:
            nodes: [C] nodes without edges.
            legal: [C] legal moves of each, as `Game.legal`; none is empty.
            labels: policy labels of all these moves, concatenated.
            logits: [C, A] the network's policy logits.
            temperature: of the policy, above 0.
        """
        moves = np.frombuffer(b"".join(legal), np.uint16)
        counts = np.array([len(values) // 2 for values in legal])
        starts = np.cumsum(counts) - counts
        rows = np.repeat(np.arange(len(nodes)), counts)
        chosen = logits.reshape(-1, NUM_ACTIONS)[rows, labels]
        shifted = chosen - np.maximum.reduceat(chosen, starts)[rows]
        weights = np.exp(shifted / np.float32(temperature))
        first, self.num_edges_used = self.num_edges_used, self.num_edges_used + len(moves)
        self._grow(_EDGE_FIELDS, self.num_edges_used)
        new = slice(first, self.num_edges_used)
        self.moves[new] = moves
        self.priors[new] = weights / np.add.reduceat(weights, starts)[rows]
        self.children[new] = NONE
        self.first_edge[nodes] = first + starts
        self.num_edges[nodes] = counts

    def edges_of(self, node: int) -> slice:
        """Edges of a node, in the order of the legal moves."""
        first = int(self.first_edge[node])
        return slice(first, first + int(self.num_edges[node]))

    def select(
        self,
        roots: Ints,
        settings: SearchSettings,
        choose_at_roots: Callable[[Ints], Ints] | None = None,
    ) -> Paths:
        """Goes down the trees by the selection rule, each path to a node that is new or proven.

        A move that has not been tried gets its node here, without edges. So a path that ends at a
        node without edges and unproven has found a leaf; so has a later path that ends at the same
        one. All nodes of a path count one virtual loss more until `back_up`, and the next path from
        the same root sees that: the result is the same as if paths were found one after the other.

        Args:
            roots: [K] roots, with edges unless proven; a root that occurs several times gets
                several paths.
            settings: constants of the rule.
            choose_at_roots: [K] different roots -> edge of each; None: the rule holds there, too.
        """
        nodes: list[Ints] = [np.array(roots)]
        edges: list[Ints] = []
        lengths = np.zeros(len(roots), np.int64)
        np.add.at(self.visits, roots, 1)
        np.add.at(self.value_sums, roots, np.float32(_VIRTUAL_LOSS))
        active = np.flatnonzero(self._goes_on(roots))
        while len(active):
            here = nodes[-1][active]
            ranks, group_sizes = _ranks(here)
            nodes.append(np.full(len(roots), NONE))
            edges.append(np.full(len(roots), NONE))
            for rank in range(int(ranks.max()) + 1):
                chosen = np.flatnonzero(ranks == rank)
                if choose_at_roots is not None and len(edges) == 1:
                    best = choose_at_roots(here[chosen])
                else:
                    best = self._best_edges(here[chosen], group_sizes[chosen] - rank, settings)
                there = self.children[best]
                fresh = np.flatnonzero(there == NONE)
                if len(fresh):
                    there[fresh] = self.add_nodes(len(fresh))
                    self.children[best[fresh]] = there[fresh]
                self.visits[there] += 1
                self.value_sums[there] += np.float32(_VIRTUAL_LOSS)
                nodes[-1][active[chosen]], edges[-1][active[chosen]] = there, best
            lengths[active] += 1
            active = active[self._goes_on(nodes[-1][active])]
        no_edges = np.zeros((len(roots), 0), np.int64)
        return Paths(np.stack(nodes, 1), np.stack(edges, 1) if edges else no_edges, lengths)

    def _goes_on(self, nodes: Ints) -> npt.NDArray[np.bool_]:
        """[K] whether a path goes on below each of these nodes."""
        is_open: npt.NDArray[np.bool_] = self.proofs[nodes] == UNPROVEN
        return is_open & (self.num_edges[nodes] > 0)

    def take_back(self, paths: Paths) -> None:
        """Forgets paths that `select` counted."""
        np.subtract.at(self.visits, paths.nodes, 1)
        np.subtract.at(self.value_sums, paths.nodes, np.float32(_VIRTUAL_LOSS))
        self.visits[NONE] = self.value_sums[NONE] = 0

    def back_up(
        self, paths: Paths, values: Floats, draw_probs: Floats, draw_value: float = 0.0
    ) -> None:
        """Puts the values found at the ends of paths in the place of their virtual losses.

        Args:
            paths: as `select` returned them; proofs of their leaves stand in the nodes.
            values: [K] value of each leaf, for the side to move there, a draw counted as 0.
            draw_probs: [K] probability of a draw.
            draw_value: see `SearchSettings`.
        """
        depth = np.arange(paths.nodes.shape[1])
        from_leaf = paths.lengths[:, None] - depth
        signs = np.where(from_leaf % 2 == 0, np.float32(1), np.float32(-1))
        along = signs * values[:, None]
        draws = np.broadcast_to(draw_probs[:, None], along.shape).copy()
        for path in np.flatnonzero(self.proofs[paths.leaves] != UNPROVEN).tolist():
            self._prove(paths, path, along[path], draws[path])
        if draw_value:
            along += (
                np.where(depth % 2 == 0, np.float32(draw_value), np.float32(-draw_value)) * draws
            )
        np.add.at(self.value_sums, paths.nodes, along - np.float32(_VIRTUAL_LOSS))
        np.add.at(self.draw_sums, paths.nodes, draws)
        self.value_sums[NONE] = self.draw_sums[NONE] = 0

    def values(self, nodes: Ints) -> Floats:
        """Value of each node for its side to move: exact where proven, else the mean of visits."""
        means = self.value_sums[nodes] / np.maximum(self.visits[nodes], 1)
        proofs = self.proofs[nodes]
        return np.where(proofs == UNPROVEN, means, PROVEN_VALUES[proofs])

    def draw_probs(self, nodes: Ints) -> Floats:
        """Probability of a draw at each node: exact where proven, else the mean of visits."""
        means = self.draw_sums[nodes] / np.maximum(self.visits[nodes], 1)
        proofs = self.proofs[nodes]
        return np.where(proofs == UNPROVEN, means, (proofs == DRAWN).astype(np.float32))

    def keep(self, roots: Ints) -> Ints:
        """Drops every node that is not below these roots; returns the roots' new indices.

        Nodes keep their order, and edges theirs, so each row moves towards the front.
        """
        expanded = np.flatnonzero(self.num_edges[: self.num_nodes])
        expanded = expanded[np.argsort(self.first_edge[expanded])]
        is_kept = self._below(roots, self._parents(expanded))
        is_kept[NONE] = True
        new_index = np.where(is_kept, np.cumsum(is_kept) - 1, NONE)
        expanded = expanded[is_kept[expanded]]
        counts = self.num_edges[expanded]
        bounds = np.zeros(self.num_edges_used + 1, np.int8)
        bounds[self.first_edge[expanded]] += 1
        bounds[self.first_edge[expanded] + counts] -= 1
        is_kept_edge = np.cumsum(bounds[:-1], dtype=np.int8) > 0
        is_kept_edge[NONE] = True
        for name in _NODE_FIELDS:
            _compact(getattr(self, name), is_kept)
        for name in _EDGE_FIELDS:
            _compact(getattr(self, name), is_kept_edge)
        self.num_nodes = int(np.count_nonzero(is_kept))
        self.num_edges_used = int(np.count_nonzero(is_kept_edge))
        self.first_edge[new_index[expanded]] = 1 + np.cumsum(counts) - counts
        tried = np.flatnonzero(self.children[: self.num_edges_used])
        self.children[tried] = new_index[self.children[tried]]
        kept_roots: Ints = new_index[roots]
        return kept_roots

    def _parents(self, expanded: Ints) -> Ints:
        """Parent of every node, NONE where none leads there.

        Args:
            expanded: the nodes with edges, in the order of their edges.
        """
        tried = np.flatnonzero(self.children[: self.num_edges_used])
        owners = expanded[np.searchsorted(self.first_edge[expanded], tried, "right") - 1]
        # A node that got its edges a second time has left the first ones behind.
        places = tried - self.first_edge[owners]
        is_owned = (places >= 0) & (places < self.num_edges[owners])
        parents = np.full(self.num_nodes, NONE)
        parents[self.children[tried[is_owned]]] = owners[is_owned]
        return parents

    def _below(self, roots: Ints, parents: Ints) -> npt.NDArray[np.bool_]:
        """Whether each node is one of these roots or below one."""
        is_below = np.zeros(self.num_nodes, np.bool_)
        is_below[roots[roots != NONE]] = True
        ancestors = parents
        while ancestors.any():  # 1, 2, 4, ... plies above
            is_below |= is_below[ancestors]
            ancestors = ancestors[ancestors]
        return is_below

    def _best_edges(self, nodes: Ints, waiting: Ints, settings: SearchSettings) -> Ints:
        """[K] edge of each node that the selection rule chooses.

        Args:
            nodes: [K] nodes, each once.
            waiting: [K] virtual losses of each that paths have brought which have not chosen there
                yet; they do not count.
            settings: constants of the rule.
        """
        counts = self.num_edges[nodes]
        columns = np.arange(int(counts.max()))
        exists = columns < counts[:, None]
        edges = np.where(exists, self.first_edge[nodes][:, None] + columns, NONE)
        children = self.children[edges]
        visits = self.visits[children]
        priors = self.priors[edges]
        of_node = (self.visits[nodes] - waiting).astype(np.float32)[:, None]
        is_tried = visits > 0
        sums = self.value_sums[nodes] - np.float32(_VIRTUAL_LOSS) * waiting
        mean = sums.astype(np.float32)[:, None] / np.maximum(of_node, 1)
        untried = mean - settings.fpu_reduction * np.sqrt((priors * is_tried).sum(1))[:, None]
        values = np.where(is_tried, -self.value_sums[children] / np.maximum(visits, 1), untried)
        c_puct = settings.c_init + np.log((1 + of_node + settings.c_base) / settings.c_base)
        scores = values + c_puct * priors * np.sqrt(of_node) / (1 + visits)
        # A move into the other side's proven win is tried only if there is no other.
        scores[self.proofs[children] == WON] = -np.float32(1e9)
        scores[~exists] = -np.inf
        best: Ints = edges[np.arange(len(nodes)), scores.argmax(1)]
        return best

    def _prove(self, paths: Paths, path: int, along: Floats, draws: Floats) -> None:
        """Carries the proof of a path's leaf upwards as far as it holds.

        Args:
            paths: of the step.
            path: which of them.
            along: [D + 1] values to be backed up along it; set where proven.
            draws: [D + 1] the same of draws.
        """
        for place in range(int(paths.lengths[path]), -1, -1):
            node = int(paths.nodes[path, place])
            if self.proofs[node] == UNPROVEN:
                children = self.children[self.edges_of(node)]
                proofs = self.proofs[children]
                if (proofs == LOST).any():
                    self.proofs[node] = WON
                elif (children == NONE).any() or (proofs == UNPROVEN).any():
                    return
                else:
                    self.proofs[node] = DRAWN if (proofs == DRAWN).any() else LOST
            proof = self.proofs[node]
            along[: place + 1] = PROVEN_VALUES[proof] * np.where(
                np.arange(place, -1, -1) % 2 == 0, 1, -1
            )
            draws[: place + 1] = proof == DRAWN

    def _grow(self, fields: _Fields, needed: int) -> None:
        """Doubles arrays that are too short."""
        for name, (dtype, shape) in fields.items():
            array = getattr(self, name)
            if len(array) < needed:
                larger: npt.NDArray[Any] = np.zeros((max(needed, 2 * len(array)), *shape), dtype)
                larger[: len(array)] = array
                setattr(self, name, larger)


def _compact(array: npt.NDArray[Any], is_kept: npt.NDArray[np.bool_]) -> None:
    """Moves the rows that are kept to the front, in their order; the others become 0.

    In parts: an operation on a whole array would stop all other threads for its time.
    """
    end = 0
    for start in range(0, len(is_kept), _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        rows = array[: len(is_kept)][start:stop][is_kept[start:stop]]
        array[end : end + len(rows)] = rows
        end += len(rows)
    array[end : len(is_kept)] = 0


def _bytes_of(fields: _Fields) -> int:
    """Bytes of one row of all these arrays."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in fields.values())


def _ranks(nodes: Ints) -> tuple[Ints, Ints]:
    """Numbers equal nodes.

    Args:
        nodes: [K] nodes.

    Returns:
        [K] how many earlier entries are the same node, and [K] how many entries are it in all.
    """
    order = np.argsort(nodes, kind="stable")
    is_first = np.ones(len(nodes), np.bool_)
    is_first[1:] = np.diff(nodes[order]) != 0
    starts = np.flatnonzero(is_first)
    sizes = np.diff(starts, append=len(nodes))
    ranks, group_sizes = np.empty_like(nodes), np.empty_like(nodes)
    ranks[order] = np.arange(len(nodes)) - np.repeat(starts, sizes)
    group_sizes[order] = np.repeat(sizes, sizes)
    return ranks, group_sizes
