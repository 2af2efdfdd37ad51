"""Policies: functions that choose moves in many games at once, by a network, greedily or at random.

A policy is asked for a move in many positions at once and answers with one legal move for each,
or with `forfeit("resign")` of `shogi/rules.py`; an engine has more reasons to forfeit.
All its random choices come from the uniform numbers that the caller passes, so games are a
function of their seeds. Self-play and evaluation choose moves here and nowhere else.

N: positions given to the network, one row of its input each. A: policy labels. K: lanes asked for.
L: legal moves of those lanes together. M: legal moves of one game.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from keisei_ray.network.model import PolicyValueNet, outcome_values
from keisei_ray.network.recording import evaluate
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import Game
from keisei_ray.shogi.game_record import Visits
from keisei_ray.shogi.vector_games import VectorGames

FloatN = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Uniforms = npt.NDArray[np.float64]

Choose = Callable[[VectorGames, Ints, Uniforms], Ints]
"""Function (games, [K] lanes, [K] uniforms in [0, 1)) -> [K] index into each lane's legal moves, or
`forfeit("resign")` of `shogi/rules.py`; an engine has more reasons to forfeit. It must not change
the games."""


@dataclass(frozen=True)
class Judgement:
    """Findings of a player about a position in which it chose a move."""

    evaluation: int | None
    """Evaluation in centipawns for the side to move; None for none."""
    visits: Visits = ()
    """Moves that a search tried and how often; empty if it tells of none."""


NO_JUDGEMENT = Judgement(None)
"""Judgement of a player that only chooses."""

REPEATING_VALUE = -0.5
"""Value of a position up to which a network repeats positions at temperature 0: a draw is better
than a loss."""
_TEMPERATURES = (1e-30, 1e30)
"""Lowest and highest temperature by which logits are divided: in float32 no quotient overflows.
Below it the likeliest move is always drawn, above it all moves are equally likely."""
_MATE_SCORE = 1e6
"""Score of a mating move, above any gain of material."""


@torch.inference_mode()
def network_outputs(
    model: PolicyValueNet,
    boards: npt.NDArray[np.uint8],
    hands: npt.NDArray[np.uint8],
    scalars: npt.NDArray[np.uint8],
) -> tuple[FloatN, FloatN, FloatN]:
    """Runs the network on compact positions, on its device.

    Args:
        model: the network.
        boards, hands, scalars: N compact positions, see `shogi/observation.py`.

    Returns:
        Logits [N, A], values [N] in [-1, 1] for the side to move, and draw probabilities [N].
    """
    device = next(model.parameters()).device
    inputs = (torch.from_numpy(part).to(device) for part in (boards, hands, scalars))
    logits, outcomes = evaluate(model, *inputs)
    values, draw_probs = outcome_values(outcomes)
    return logits.cpu().numpy(), values.cpu().numpy(), draw_probs.cpu().numpy()


def legal_probs(game: Game, logits: FloatN) -> npt.NDArray[np.float64]:
    """[M] probabilities of the legal moves of one game, in their order.

    Args:
        game: goes on.
        logits: [A] logits of its position.
    """
    legal = logits[LABEL_OF_MOVE[game.turn, array("H", game.legal)]].astype(np.float64)
    weights: npt.NDArray[np.float64] = np.exp(legal - legal.max())
    weights /= weights.sum()
    return weights


def sample_legal(
    logits: FloatN,
    legal_labels: npt.NDArray[np.int16],
    legal_offsets: npt.NDArray[np.int64],
    uniforms: npt.NDArray[np.float64],
) -> tuple[Ints, FloatN]:
    """Samples one legal move per row from softmax(logits over the row's legal labels).

    Works on the ragged legal labels (about 80 per row) instead of all 1,496.

    Args:
        logits: [N, A] float32.
        legal_labels: [L] int16, the rows' legal labels, concatenated.
        legal_offsets: [N + 1] int64, row i owns legal_labels[offsets[i]:offsets[i + 1]];
            no row is empty.
        uniforms: [N] float64 in [0, 1); one number per row decides its move.

    Returns:
        choices: [N] int64, index within the row's legal labels.
        log_probs: [N] float32, log-probability of the choice among the legal moves.
    """
    starts = legal_offsets[:-1]
    counts = np.diff(legal_offsets)
    rows = np.repeat(np.arange(len(logits)), counts)
    legal = logits[rows, legal_labels]
    legal = legal - np.maximum.reduceat(legal, starts)[rows]
    weights = np.exp(legal, dtype=np.float64)
    ends = np.cumsum(weights)
    totals = np.add.reduceat(weights, starts)
    before = ends[starts] - weights[starts]
    picks = np.searchsorted(ends, before + uniforms * totals, side="right")
    # Rounding may move a pick beyond its row, by one at most.
    picks = np.clip(picks, starts, legal_offsets[1:] - 1)
    log_probs = legal[picks] - np.log(totals)
    return picks - starts, log_probs.astype(np.float32)


def forced_log_probs(
    logits: FloatN,
    legal_labels: npt.NDArray[np.int16],
    legal_offsets: Ints,
    rows: Ints,
    choices: Ints,
) -> FloatN:
    """Returns the log-probability, among the legal moves, of moves that something else chose.

    Args:
        logits, legal_labels, legal_offsets: as in `sample_legal`.
        rows: [K] int64, the rows asked for.
        choices: [K] int64, index within each row's legal labels.

    Returns:
        [K] float32.
    """
    log_probs = np.empty(len(rows), np.float32)
    for i, (row, choice) in enumerate(zip(rows.tolist(), choices.tolist(), strict=True)):
        legal = logits[row, legal_labels[legal_offsets[row] : legal_offsets[row + 1]]]
        shifted = legal - legal.max()
        log_probs[i] = shifted[choice] - np.log(np.exp(shifted, dtype=np.float64).sum())
    return log_probs


def legal_moves(games: VectorGames, lanes: Ints) -> tuple[npt.NDArray[np.int16], Ints]:
    """Returns the [L] legal labels of these lanes, concatenated, and their [K + 1] offsets."""
    if len(lanes) == games.num_games:
        return games.legal_labels, games.legal_offsets
    entries, offsets = _legal_entries(games, lanes)
    return games.legal_labels[entries], offsets


def network_policy(model: PolicyValueNet, temperature: float = 0.0) -> Choose:
    """Returns the policy of a network; one forward pass serves all lanes.

    Args:
        model: the network, on the CPU and in eval mode.
        temperature: see `player.checkpoint_player`.
    """

    def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        labels, offsets = legal_moves(games, lanes)
        positions = (games.boards[lanes], games.hands[lanes], games.scalars[lanes])
        logits, values, _ = network_outputs(model, *positions)
        if temperature > 0:
            divisor = np.float32(np.clip(temperature, *_TEMPERATURES))
            return sample_legal(logits / divisor, labels, offsets, uniforms)[0]
        rows = np.repeat(np.arange(len(lanes)), np.diff(offsets))
        scores = logits[rows, labels].astype(np.float64)
        choices = _pick_best(scores, offsets, uniforms)
        for row in np.flatnonzero(values > REPEATING_VALUE).tolist():
            game = games.game(int(lanes[row]))
            own = scores[offsets[row] : offsets[row + 1]]
            choices[row] = likeliest_without_repeating(game, own, int(choices[row]))
        return choices

    return choose


def likeliest_without_repeating(game: Game, scores: npt.NDArray[np.float64], best: int) -> int:
    """Index of the best legal move that does not lead to a position which the game has had.

    Args:
        game: goes on.
        scores: [M] of its legal moves.
        best: index of the best of all, which is returned if all moves repeat positions.
    """
    legal = array("H", game.legal)
    if game.occurrences_after(legal[best]) == 0:
        return best
    for index in np.argsort(-scores, kind="stable").tolist():
        if game.occurrences_after(legal[index]) == 0:
            return int(index)
    return best


def finishing(inner: Choose) -> Choose:
    """Returns a policy that plays every mate in one that rsshogi finds, and else asks `inner`."""

    def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        choices = games.mate_in_one()[lanes]
        others = np.flatnonzero(choices < 0)
        if len(others):
            choices[others] = inner(games, lanes[others], uniforms[others])
        return choices

    return choose


def choose_random(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
    """Chooses every legal move with the same probability."""
    entries, offsets = _legal_entries(games, lanes)
    return _pick_best(np.zeros(len(entries)), offsets, uniforms)


def choose_greedy(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
    """Chooses a mate in one if there is one, else the largest gain of material; ties at random."""
    entries, offsets = _legal_entries(games, lanes)
    scores = games.gains()[entries].astype(np.float64)
    mates = games.mate_in_one()[lanes]
    mating = mates >= 0
    scores[offsets[:-1][mating] + mates[mating]] = _MATE_SCORE
    return _pick_best(scores, offsets, uniforms)


def choose_greedy2(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
    """Chooses a mate in one if there is one, else the best net gain of material; ties at random.

    The net gain is what the move wins, less the most that the opponent's answer wins. A move that
    lets the opponent mate at once comes last.
    """
    _, offsets = _legal_entries(games, lanes)
    return _pick_best(games.net_gains(lanes).astype(np.float64), offsets, uniforms)


def partly_random(inner: Choose, share: float) -> Choose:
    """Returns a policy that plays this share of its moves at random, and else asks `inner`."""

    def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        choices = np.zeros(len(lanes), dtype=np.int64)
        is_random = uniforms < share
        for mask, policy, draws in (
            (is_random, choose_random, uniforms / max(share, 1e-9)),
            (~is_random, inner, (uniforms - share) / max(1.0 - share, 1e-9)),
        ):
            if mask.any():
                choices[mask] = policy(games, lanes[mask], draws[mask])
        return choices

    return choose


choose_random_mates = finishing(choose_random)
"""Chooses a mate in one if there is one, else every legal move with the same probability."""


def _legal_entries(games: VectorGames, lanes: Ints) -> tuple[Ints, Ints]:
    """Returns the [L] indices of these lanes' legal moves among all, and their [K + 1] offsets."""
    starts = games.legal_offsets[lanes]
    counts = games.legal_offsets[lanes + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1]), offsets


def _pick_best(scores: npt.NDArray[np.float64], offsets: Ints, uniforms: Uniforms) -> Ints:
    """Chooses a move with the best score in each row; the uniforms decide ties.

    Args:
        scores: [L], row i owns scores[offsets[i]:offsets[i + 1]]; no row is empty.
        offsets: [K + 1].
        uniforms: [K] in [0, 1).

    Returns:
        [K] int64, index within the row.
    """
    starts = offsets[:-1]
    best = np.repeat(np.maximum.reduceat(scores, starts), np.diff(offsets))
    is_best = (scores == best).astype(np.int64)
    num_best = np.add.reduceat(is_best, starts)
    rank = np.cumsum(is_best)
    # Rank of the pick among all best moves; u < 1 may still round up to the row's end.
    picks = np.minimum((uniforms * num_best).astype(np.int64), num_best - 1)
    before = rank[starts] - is_best[starts]
    choices: Ints = np.searchsorted(rank, before + picks + 1) - starts
    return choices
