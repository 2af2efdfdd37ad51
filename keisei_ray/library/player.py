"""The network of a checkpoint for programs of one's own: what it thinks, and what it plays."""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Final, Literal, overload

import numpy as np
import numpy.typing as npt

from keisei_ray.config.player_spec import SearchSpec
from keisei_ray.errors import ConfigError, PositionError
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.players.policies import legal_probs, network_outputs, network_policy
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.players.searching import SearchingPolicy
from keisei_ray.shogi.game import (
    NO_PLY_CAP,
    STANDARD_SFEN,
    Game,
    Opening,
    check_position,
    play_opening,
    usi_text,
)
from keisei_ray.shogi.rules import can_declare
from keisei_ray.shogi.vector_games import VectorGames

STARTPOS: Final = "startpos"
"""Word of the USI protocol for the standard start position."""
ROWS_PER_PASS: Final = 256
"""Positions that are evaluated in one forward pass."""


@dataclass(frozen=True)
class Evaluation:
    """Opinion of a network on one position, from the side to move.

    Where the game is over by the rules the result is exact, and there is no move to play: the side
    to move is mated (value -1), or has won by declaration (value 1).
    """

    sfen: str
    """The position as it was given."""
    policy: Mapping[str, float]
    """Legal move in USI notation -> probability, likeliest first; they add up to 1. Empty where the
    game is over."""
    value: float
    """Expected result in [-1, 1]: win - loss."""
    win: float
    """Probability that the side to move wins. A network whose `model.value_head` is scalar knows no
    draws: win and loss then add up to 1."""
    draw: float
    """Probability of a draw."""
    loss: float
    """Probability that the side to move loses."""


class NetworkPlayer:
    """The network of a checkpoint, on the CPU.

    Attributes:
        checkpoint: path or URI of the checkpoint.
        timestep: timesteps that it had been trained on.
        weights_version: updates behind the weights; None if the checkpoint does not say.
    """

    def __init__(
        self, model: PolicyValueNet, checkpoint: str, timestep: int, weights_version: int | None
    ) -> None:
        """Takes over a network in eval mode; `load` makes one of a checkpoint."""
        self._model = model
        self.checkpoint = checkpoint
        self.timestep = timestep
        self.weights_version = weights_version

    def __repr__(self) -> str:
        return f"NetworkPlayer({self.checkpoint!r}, timestep={self.timestep})"

    @overload
    def evaluate(self, sfens: str) -> Evaluation: ...  # type: ignore[overload-overlap]

    @overload
    def evaluate(self, sfens: Iterable[str]) -> list[Evaluation]: ...

    def evaluate(self, sfens: str | Iterable[str]) -> Evaluation | list[Evaluation]:
        """Evaluates positions by the network alone, many in one forward pass.

        An SFEN has no history: repetitions and earlier checks count as none.

        Args:
            sfens: one position, or any number of them, each an SFEN or "startpos".

        Returns:
            An evaluation for each position; of one position just that.

        Raises:
            PositionError: a text is not an SFEN, or no game can have the position.
        """
        if isinstance(sfens, str):
            return self._evaluate([sfens])[0]
        texts = list(sfens)
        starts = range(0, len(texts), ROWS_PER_PASS)
        return [e for i in starts for e in self._evaluate(texts[i : i + ROWS_PER_PASS])]

    def move(
        self,
        sfen: str = STARTPOS,
        *,
        moves: Sequence[str] = (),
        simulations: int | None = None,
        seconds: float | None = None,
        root: Literal["puct", "gumbel"] = "puct",
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> str:
        """Chooses a move. Without simulations and seconds by the policy alone, else by a search.

        Args:
            sfen: where the game began: an SFEN or "startpos".
            moves: every move since then in USI notation, so that repetitions are seen.
            simulations: positions that a search looks at; None: no limit, if there are seconds.
            seconds: time after which a search ends; None: no limit, if there are simulations.
            root: rule by which a search divides its simulations among the moves of the position.
                `gumbel` needs a number of simulations, and is for few of them.
            temperature: 0 plays the best move found. Above 0 one is drawn, from
                softmax(logits / temperature) of the policy or visits ** (1 / temperature) of a
                search.
            seed: decides what is drawn; None: another draw each time.

        Returns:
            The move in USI notation.

        Raises:
            PositionError: the position or a move is impossible, or the game is over.
            ConfigError: simulations, seconds, root, temperature or seed out of their limits.
        """
        _check_limits(simulations, seconds, root, temperature, seed)
        game = _game(sfen, moves)
        games = VectorGames(1, max_plies=NO_PLY_CAP, start_game=lambda index: game)
        if simulations is None and seconds is None:
            choose = network_policy(self._model, temperature)
        else:
            choose = SearchingPolicy(
                self._model, SearchSpec(simulations, seconds, root), temperature
            )
        uniforms = np.random.default_rng(seed).random(1)
        chosen = int(choose(games, np.arange(1), uniforms)[0])
        return _legal_usi(game)[chosen]

    def _evaluate(self, sfens: Sequence[str]) -> list[Evaluation]:
        """Evaluates positions in one forward pass."""
        games = [_position(sfen) for sfen in sfens]
        boards, hands, scalars = zip(*(game.observe() for game in games), strict=True)
        logits, values, draws = network_outputs(
            self._model, np.stack(boards), np.stack(hands), np.stack(scalars)
        )
        rows = zip(sfens, games, logits, values.tolist(), draws.tolist(), strict=True)
        return [_evaluation(*row) for row in rows]


def load(path: str | Path) -> NetworkPlayer:
    """Loads the network of a checkpoint.

    Args:
        path: a run directory, its `checkpoints` directory, one checkpoint, or the URI of one of
            these. Of several checkpoints the newest intact one is loaded.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        StorageError: the URI cannot be reached or read.
    """
    where, found = open_checkpoint(path)
    version = found.info.get("weights_version")
    return NetworkPlayer(
        load_model(found), where, found.timestep, version if isinstance(version, int) else None
    )


def _position(text: str) -> Game:
    """Returns a position as the first of a game, over or not."""
    sfen = _sfen(text)
    try:
        check_position(sfen)
    except ValueError as error:
        raise PositionError(str(error)) from error
    return Game(sfen, max_plies=NO_PLY_CAP)


def _game(text: str, moves: Sequence[str]) -> Game:
    """Returns a game that goes on, after the moves."""
    if _is_over(_position(text)):
        raise PositionError(f"position '{text}': the game is over. Expected one that goes on.")
    played = moves if isinstance(moves, str) else " ".join(moves)
    try:
        return play_opening(Opening(_sfen(text), played), max_plies=NO_PLY_CAP)
    except ValueError as error:
        raise PositionError(str(error)) from error


def _sfen(text: str) -> str:
    return STANDARD_SFEN if text == STARTPOS else text.removeprefix("sfen ")


def _legal_usi(game: Game) -> list[str]:
    return [usi_text(move) for move in array("H", game.legal)]


def _is_over(game: Game) -> bool:
    return not game.legal or can_declare(game.board, game.turn)


def _evaluation(
    sfen: str, game: Game, logits: npt.NDArray[np.float32], value: float, draw: float
) -> Evaluation:
    """Reads one row of the network's outputs, unless the rules have the answer."""
    if not game.legal:
        return Evaluation(sfen, {}, -1.0, 0.0, 0.0, 1.0)
    if _is_over(game):
        return Evaluation(sfen, {}, 1.0, 1.0, 0.0, 0.0)
    probs = legal_probs(game, logits).tolist()
    by_prob = sorted(zip(_legal_usi(game), probs, strict=True), key=lambda pair: -pair[1])
    win, loss = (1 - draw + value) / 2, (1 - draw - value) / 2
    return Evaluation(sfen, dict(by_prob), value, win, draw, loss)


def _check_limits(
    simulations: int | None,
    seconds: float | None,
    root: str,
    temperature: float,
    seed: int | None,
) -> None:
    if simulations is not None and not _is_whole(simulations, least=1):
        raise ConfigError(f"simulations = {simulations}: expected a whole number, 1 or more.")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"seconds = {seconds}: expected a number above 0.")
    if root not in ("puct", "gumbel"):
        raise ConfigError(f"root = {root!r}: expected 'puct' or 'gumbel'.")
    if root == "gumbel" and simulations is None:
        raise ConfigError("root = 'gumbel' without simulations: expected a number of them.")
    if not 0 <= temperature < math.inf:
        raise ConfigError(f"temperature = {temperature}: expected 0 or more.")
    if seed is not None and not _is_whole(seed, least=0):
        raise ConfigError(f"seed = {seed}: expected a whole number, 0 or more.")


def _is_whole(value: object, *, least: int) -> bool:
    """Whether a value is a whole number, numpy's included, and no less than that."""
    return isinstance(value, Integral) and int(value) >= least
