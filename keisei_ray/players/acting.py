"""Acting: a network that chooses moves and values positions in many games at once, on its device.

`begin` hands over positions, `finish` returns a legal move for each. On the CPU the network has
answered when `begin` returns (`ActingNetwork`). On a CUDA device it has only been asked: between
`begin` and `finish` the CPU is free for other games (`DeviceActingNetwork`).

Positions travel to the device as 285 compact bytes each. Planes, legal moves, probabilities and the
choice are computed there, so that 20 bytes for each position come back instead of 1,496 logits.

K: positions asked for. A: policy labels (1,496). L: legal moves of these positions together.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keisei_ray.errors import ConfigError
from keisei_ray.network.model import NUM_SCALARS, PolicyValueNet, legal_mask, outcome_values
from keisei_ray.players.policies import (
    FloatN,
    Ints,
    Uniforms,
    forced_log_probs,
    legal_moves,
    network_outputs,
    sample_legal,
)
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.vector_games import VectorGames

Bytes = npt.NDArray[np.uint8]

_PARTS = (81, 14, NUM_SCALARS, NUM_ACTIONS // 8)
"""Bytes of a position's board, hands, scalars and legal bits, in the order in which they travel."""
_UNIFORM, _FORCED = range(2)
"""Columns of the numbers that decide a row's move: the uniform, and the forced label or -1."""
_LABEL, _LOG_PROB, _VALUE, _DRAW_PROB, _SUM = range(5)
"""Columns of a row that comes back. The sum of all outputs is finite only if everything is."""
_STEPS = 8
"""A call computes the least number of eighths of the rows that suffices: each number of rows has a
CUDA graph of its own."""
_LEAST_STEP = 16
"""Rows that a step has at least: fewer take the GPU as long."""
_WARM_UP_CALLS = 3
"""Calls before a CUDA graph is captured, in which libraries choose their kernels."""


class Chosen(NamedTuple):
    """Answers of a network for K positions, each seen by its side to move."""

    choices: Ints
    """[K] int64, index within the position's legal moves."""
    log_probs: FloatN
    """[K] log-probability of the choice among the legal moves."""
    values: FloatN
    """[K] value in [-1, 1]."""
    draw_probs: FloatN
    """[K] probability of a draw."""


class _Graph(NamedTuple):
    """A captured evaluation of a number of rows."""

    graph: torch.cuda.CUDAGraph
    answers: Tensor
    """Tensor in which a replay leaves its result."""


class ActingNetwork:
    """A network on the CPU that chooses moves."""

    def __init__(self, model: PolicyValueNet) -> None:
        """Wraps a network in eval mode, whose weights may be overwritten between two calls."""
        self._model = model

    def begin(
        self, games: VectorGames, lanes: Ints, uniforms: Uniforms, forced: Ints | None = None
    ) -> None:
        """Asks for a move in each of these lanes; `finish` comes before the next `begin`.

        The games must not be stepped before `finish`.

        Args:
            games: not changed.
            lanes: [K], at least one.
            uniforms: [K] in [0, 1), one draw a lane.
            forced: [K] index of a legal move that is chosen whatever the network prefers, -1 where
                there is none; None if there is none at all.
        """
        self._labels, self._offsets = legal_moves(games, lanes)
        self._uniforms, self._forced = uniforms, forced
        self._outputs = network_outputs(
            self._model, games.boards[lanes], games.hands[lanes], games.scalars[lanes]
        )

    def wait(self) -> bool:
        """Blocks until the answers are there; returns whether all outputs are finite numbers."""
        logits, values, _ = self._outputs
        # Sums, because they are finite only if everything is.
        return bool(np.isfinite(logits.sum() + values.sum()))

    def finish(self) -> Chosen:
        """Returns the answers to `begin`; blocks until they are there."""
        logits, values, draw_probs = self._outputs
        labels, offsets, forced = self._labels, self._offsets, self._forced
        choices, log_probs = sample_legal(logits, labels, offsets, self._uniforms)
        if forced is not None:
            rows = np.flatnonzero(forced >= 0)
            choices[rows] = forced[rows]
            log_probs[rows] = forced_log_probs(logits, labels, offsets, rows, forced[rows])
        return Chosen(choices, log_probs, values, draw_probs)

    def outcomes(self, boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[FloatN, FloatN]:
        """Returns the values and the draw probabilities of any number of compact positions."""
        return network_outputs(self._model, boards, hands, scalars)[1:]


class DeviceActingNetwork(ActingNetwork):
    """A network on a device of its own that chooses moves while the CPU steps other games.

    On CUDA everything runs on a stream of this object, from and to pinned memory. The work is
    captured as a CUDA graph, which a single call replays: launched one by one, its kernels would
    take the CPU longer than the GPU. Torch does not compile them: that would take each actor most
    of a minute, and its games take longer than the GPU already. Rows that are not asked for hold
    older positions; their answers are not read. Weights are overwritten in place, so a graph stays
    valid. On a CPU the same functions run without stream and graph; only tests do that.
    """

    def __init__(self, model: PolicyValueNet, num_rows: int) -> None:
        """Allocates every buffer.

        Args:
            model: in eval mode, on its device.
            num_rows: most positions of one call.
        """
        super().__init__(model)
        device = next(model.parameters()).device
        is_cuda = device.type == "cuda"
        self._num_rows = num_rows
        self._num_asked = 0
        # In rows that are never filled every move is legal: none may have no legal move.
        self._sent = torch.full((num_rows, sum(_PARTS)), 255, dtype=torch.uint8)
        self._sent[:, : -_PARTS[-1]] = 0
        self._draws = torch.full((num_rows, 2), -1, dtype=torch.float64)
        self._received = torch.zeros(num_rows, 5)
        if is_cuda:
            self._sent, self._draws = self._sent.pin_memory(), self._draws.pin_memory()
            self._received = self._received.pin_memory()
        self._on_device = self._sent.to(device), self._draws.to(device)
        self._stream = torch.cuda.Stream(device) if is_cuda else None
        # Blocking: a core that waits is free for other processes.
        self._done = torch.cuda.Event(blocking=True) if is_cuda else None
        self._graphs: dict[int, _Graph] = {}

    def begin(
        self, games: VectorGames, lanes: Ints, uniforms: Uniforms, forced: Ints | None = None
    ) -> None:
        """Sends the positions to the device; returns before they are evaluated."""
        n = self._num_asked = len(lanes)
        self._labels, self._offsets = legal_moves(games, lanes)
        parts = (games.boards, games.hands, games.scalars, games.legal_bits())
        np.concatenate([part[lanes] for part in parts], 1, out=self._sent.numpy()[:n])
        draws = self._draws.numpy()[:n]
        draws[:, _UNIFORM] = uniforms
        draws[:, _FORCED] = -1
        if forced is not None:
            rows = np.flatnonzero(forced >= 0)
            draws[rows, _FORCED] = self._labels[self._offsets[rows] + forced[rows]]
        self._evaluate(self._rows_for(n))

    def wait(self) -> bool:
        """Blocks until the answers are there; returns whether all outputs are finite numbers."""
        if self._done is not None:
            self._done.synchronize()
        return bool(np.isfinite(self._received.numpy()[: self._num_asked, _SUM]).all())

    def finish(self) -> Chosen:
        """Returns the answers to `begin`; blocks until they are there."""
        self.wait()
        rows = self._received.numpy()[: self._num_asked].copy()
        # A label is unique among the legal moves of a position, so each row has one entry.
        chosen = np.repeat(rows[:, _LABEL].astype(np.int16), np.diff(self._offsets))
        choices = np.flatnonzero(self._labels == chosen) - self._offsets[:-1]
        return Chosen(choices, rows[:, _LOG_PROB], rows[:, _VALUE], rows[:, _DRAW_PROB])

    @torch.inference_mode()
    def outcomes(self, boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[FloatN, FloatN]:
        """Returns the values and the draw probabilities of any number of compact positions."""
        device = self._on_device[0].device
        sent = (torch.from_numpy(part).to(device) for part in (boards, hands, scalars))
        found = torch.stack(outcome_values(self._model(*sent)[1])).cpu().numpy()
        return found[0], found[1]

    @torch.inference_mode()
    def _evaluate(self, num_rows: int) -> None:
        """Starts the copies there, the evaluation of the first rows, and the copy back."""
        sent, draws = (tensor[:num_rows] for tensor in self._on_device)
        if self._stream is not None:
            if num_rows not in self._graphs:
                self._graphs[num_rows] = self._captured(sent, draws, self._stream)
            # Weights are written on the current stream.
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with self._own_stream():
            sent.copy_(self._sent[:num_rows], non_blocking=True)
            draws.copy_(self._draws[:num_rows], non_blocking=True)
            if self._stream is None:
                answers = self._answered(sent, draws)
            else:
                graph, answers = self._graphs[num_rows]
                graph.replay()
            self._received[:num_rows].copy_(answers, non_blocking=True)
            if self._done is not None:
                self._done.record()

    def _rows_for(self, num_asked: int) -> int:
        """Returns how many rows are computed for so many positions."""
        step = max(_LEAST_STEP, -(-self._num_rows // _STEPS))
        return min(self._num_rows, -(-num_asked // step) * step)

    def _captured(self, sent: Tensor, draws: Tensor, stream: torch.cuda.Stream) -> "_Graph":
        """Captures the evaluation of these rows.

        Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
        """
        graph = torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with _fastest_kernels():
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_CALLS):
                    self._answered(sent, draws)
            stream.synchronize()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                answers = self._answered(sent, draws)
        return _Graph(graph, answers)

    def _answered(self, sent: Tensor, draws: Tensor) -> Tensor:
        """[rows, 5] float32: the answers for rows of compact bytes. Never waits for the device."""
        boards, hands, scalars, legal_bits = sent.split(_PARTS, 1)
        logits, outcomes = self._model(boards, hands, scalars)
        values, draw_probs = outcome_values(outcomes)
        labels, log_probs = sample_masked(
            logits, legal_mask(legal_bits), draws[:, _UNIFORM], draws[:, _FORCED].long()
        )
        sums = logits.sum(1) + values
        return torch.stack([labels.float(), log_probs, values, draw_probs, sums], 1)

    def _own_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


@contextmanager
def _fastest_kernels() -> Iterator[None]:
    """Makes cuDNN try its kernels for each new size in the block, and use the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def acting_network(model: PolicyValueNet, num_rows: int) -> ActingNetwork:
    """Returns what chooses moves by this network, on the device where it is.

    Args:
        model: in eval mode.
        num_rows: most positions of one call.
    """
    if next(model.parameters()).device.type == "cpu":
        return ActingNetwork(model)
    return DeviceActingNetwork(model, num_rows)


def acting_device(device: str) -> torch.device:
    """Returns the device of a process's acting networks, and prepares torch for it.

    TF32 is allowed as in the learner, which then computes the same function.

    Args:
        device: "cpu", or "cuda" for the GPU that the process sees; "auto", which only a running
            configuration can decide, is the CPU here.

    Raises:
        ConfigError: torch sees no CUDA device.
    """
    if device != "cuda":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "self_play.device = 'cuda', but torch sees no CUDA device in a self-play actor's "
            "process. Use self_play.device = 'cpu' or machines with a GPU."
        )
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return torch.device(device)


def sample_masked(
    logits: Tensor, mask: Tensor, uniforms: Tensor, forced: Tensor
) -> tuple[Tensor, Tensor]:
    """Samples one legal label for each row from softmax(logits over the row's legal labels).

    The counterpart of `sample_legal` on the device: the same distribution, but labels are in
    ascending order there, so a uniform may choose another move. A label is legal whatever rounding
    does, also if a cumulative sum that is computed in parallel should not rise everywhere.

    Args:
        logits: [K, A] float32.
        mask: [K, A] bool, True = legal; every row has at least one.
        uniforms: [K] float64 in [0, 1]; one number decides a row's move.
        forced: [K] int64, a legal label that is chosen instead, -1 where there is none.

    Returns:
        labels: [K] int64.
        log_probs: [K] float32, log-probability of the label among the legal ones.
    """
    shifted = logits.masked_fill(~mask, -torch.inf)
    shifted = shifted - shifted.amax(1, keepdim=True)
    ends = shifted.double().exp().cumsum(1)
    totals = ends[:, -1]
    is_beyond = mask & (ends > (uniforms * totals)[:, None])
    labels = torch.arange(logits.shape[1], device=logits.device).expand_as(mask)
    first = labels.masked_fill(~is_beyond, logits.shape[1]).amin(1)
    # With a uniform that rounds up to 1 no label lies beyond.
    last = labels.masked_fill(~mask, -1).amax(1)
    chosen = torch.where(forced >= 0, forced, torch.minimum(first, last))
    log_probs = shifted.gather(1, chosen[:, None])[:, 0] - totals.log()
    return chosen, log_probs.float()
