"""Who sits where: which of an actor's games are played against a member of the pool, and by whom.

A seat is taken when a game starts and kept until it ends, across rollouts: opponent and colour are
drawn from a random stream of the game's own. With a share of 0 nothing is drawn and nobody but the
learner ever moves.

An actor holds the networks of at most `pool.networks_per_actor` snapshots. One that is no longer
offered takes no new games and goes when its games have ended; one that is offered comes when a game
draws it and there is room. Where there is no room for it the draw is among the others, and where
nobody is left the game is self-play.

N: games side by side. K: some of their lanes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from keisei_ray.config.schema import Config
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import load_weights
from keisei_ray.players.opponents import parse_opponent
from keisei_ray.players.policies import Choose, Ints, Uniforms, network_policy
from keisei_ray.rollouts.finished_game import Color
from keisei_ray.rollouts.packed_buffer import BufferLike
from keisei_ray.selfplay.pool import SELF_PLAY, Offer
from keisei_ray.shogi.vector_games import VectorGames

LEARNER = ""
"""Opponent's name in a game that the learner plays against itself."""
COLORS: tuple[Color, Color] = ("black", "white")
"""By `VectorGames.turns`."""


class Seats:
    """The opponents of N games, and the networks they need."""

    def __init__(
        self, config: Config, num_games: int, rng_for_game: Callable[[int], np.random.Generator]
    ) -> None:
        """Args:
        config: names the scripted members, which are brought up here if they can be needed.
        num_games: N. All are self-play until `sit`.
        rng_for_game: a fresh generator for the game with this index, for nobody else's use.

        Raises:
            OpponentError: a scripted member cannot be had.
        """
        self._config = config
        self._rng_for_game = rng_for_game
        members = config.pool.members if config.pool.share > 0 else ()
        self._scripted = {name: parse_opponent(name).choose for name in members}
        self._networks: dict[str, Choose] = {}
        self._offer = SELF_PLAY
        self._weights: dict[str, BufferLike] = {}
        self._opponents = [LEARNER] * num_games
        self._learner_turns = np.zeros(num_games, np.uint8)
        self._lanes_of: dict[str, list[int]] = {}
        self._everywhere = np.arange(num_games)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the snapshots whose networks are held."""
        return tuple(self._networks)

    def take(self, offer: Offer, weights: Sequence[BufferLike]) -> None:
        """New games draw from `offer` from now on; `weights` are those of `offer.networks`."""
        self._offer = offer
        self._weights = dict(zip(offer.networks, weights, strict=True))
        self._drop_idle()

    def sit(self, lane: int, game_index: int) -> None:
        """A new game begins in a lane: draws its opponent and the learner's side."""
        before = self._opponents[lane]
        if before != LEARNER:
            self._lanes_of[before].remove(lane)
            if not self._lanes_of[before]:
                del self._lanes_of[before]
                self._drop_idle()
        name = LEARNER
        if self._offer.share > 0:
            name, self._learner_turns[lane] = self._draw(self._rng_for_game(game_index))
        self._opponents[lane] = name
        if name != LEARNER:
            self._lanes_of.setdefault(name, []).append(lane)

    def seat(self, lane: int) -> tuple[str, Color | None]:
        """Opponent of the game in a lane, and the learner's side; ("", None) of self-play."""
        name = self._opponents[lane]
        return name, COLORS[self._learner_turns[lane]] if name != LEARNER else None

    def learner_lanes(self, turns: npt.NDArray[np.uint8]) -> Ints:
        """[K] lanes, ascending, in which the learner is to move.

        Args:
            turns: [N] the side to move, 0 black, 1 white.
        """
        if not self._lanes_of:
            return self._everywhere
        is_learner = np.ones(len(turns), np.bool_)
        for lanes in self._lanes_of.values():
            is_learner[lanes] = turns[lanes] == self._learner_turns[lanes]
        return np.flatnonzero(is_learner)

    def opponents_moves(self, games: VectorGames, uniforms: Uniforms) -> Ints:
        """[N] index into its lane's legal moves where an opponent is to move, 0 elsewhere.

        Each opponent is asked once, for all its games together.

        Args:
            games: the N games.
            uniforms: [N] in [0, 1), one draw a lane.
        """
        choices = np.zeros(games.num_games, np.int64)
        for name, taken in self._lanes_of.items():
            lanes = np.array(sorted(taken))
            lanes = lanes[games.turns[lanes] != self._learner_turns[lanes]]
            if len(lanes):
                choose = self._scripted.get(name) or self._networks[name]
                choices[lanes] = choose(games, lanes, uniforms[lanes])
        return choices

    def _draw(self, rng: np.random.Generator) -> tuple[str, int]:
        """An opponent's name and the side of the learner, 0 black, 1 white."""
        is_pool, which, side = rng.random(3)
        room = self._config.pool.networks_per_actor - len(self._networks)
        members = [
            (name, probability)
            for name, probability in self._offer.members
            if name in self._scripted or name in self._networks or room > 0
        ]
        if is_pool >= self._offer.share or not members:
            return LEARNER, 0
        ends = np.cumsum([probability for _, probability in members])
        place = int(np.searchsorted(ends, which * ends[-1], side="right"))
        name = members[min(place, len(members) - 1)][0]
        if name in self._weights and name not in self._networks:
            self._networks[name] = self._load(self._weights[name])
        return name, int(side >= 0.5)

    def _load(self, weights: BufferLike) -> Choose:
        """A snapshot, which plays as it played in self-play: sampled from its policy."""
        model = build_model(self._config.model, seed=self._config.run.seed).eval()
        load_weights(model, weights)
        return network_policy(model, temperature=1.0)

    def _drop_idle(self) -> None:
        """Lets go of the networks that are not offered and have no game left."""
        for name in list(self._networks):
            if name not in self._weights and name not in self._lanes_of:
                del self._networks[name]
