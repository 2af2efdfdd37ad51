"""Which opponent plays which game: one actor's games against members of the pool.

When a game starts, its opponent and the learner's side are chosen at random, from a random stream
of the game's own. Both stay until the game ends, across rollouts. Where `pool.share` is 0 every
game is self-play.

An actor holds the networks of at most `pool.networks_per_actor` snapshots. A network is loaded when
a game gets its snapshot and a slot is free. A snapshot that is no longer in the mix gets no new
games, and its network is dropped when its last game has ended. While no slot is free, a new game
gets one of the members that need none; if there is no such member, the game is self-play.

An engine starts when a game first gets it. If it cannot be started, or fails in a game, it is
benched: it gets no game any more, and its games in play go on as self-play from where they are.
They have no end that the engine's failure decided, and all plies of the learner in them count.

An actor may step its games in several groups (`selfplay/self_play.py`). A group has a range of
lanes, and numbers them from 0.

N: games side by side, one in each lane. M: games of a group. K: some of these lanes.
"""

import logging
from collections.abc import Callable, Sequence
from reprlib import repr as shortened
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.config.player_spec import POOL_KINDS
from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError, PlayerError
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.weights import load_weights
from keisei_ray.players.acting import ActingNetwork, acting_device, acting_network
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import Ints, Uniforms
from keisei_ray.rollouts.actor_state import NO_OPPONENT, PairingState
from keisei_ray.rollouts.finished_game import Color
from keisei_ray.rollouts.packed_buffer import BufferLike
from keisei_ray.selfplay.opponent_mix import SELF_PLAY_ONLY, OpponentMix
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.telemetry.reports import BenchedMember

logger = logging.getLogger(__name__)

COLOR_OF_TURN: tuple[Color, Color] = ("black", "white")
"""Name of a side by its number in `VectorGames.turns`."""


class _Network(NamedTuple):
    """A network that plays with the weights of one snapshot after another."""

    model: PolicyValueNet
    acting: dict[int, ActingNetwork]
    """By a group's first lane, the network as the group asks it: several may be asked at once. Made
    when a group first asks."""


class AskedNetwork(NamedTuple):
    """A snapshot's network that has been asked for its moves of a ply in a group."""

    lanes: Ints
    """[K] lanes of the group."""
    acting: ActingNetwork
    """Has the moves, in order of the lanes, when `finish` is called."""


class Pairing:
    """The opponents of N games, and the networks that they need."""

    def __init__(
        self, config: Config, num_games: int, rng_for_game: Callable[[int], np.random.Generator]
    ) -> None:
        """Makes N games of self-play, until `start_game`; no engine is started yet.

        Args:
            config: with every choice made.
            num_games: N.
            rng_for_game: makes the generator of the game with this index, used for its pairing
                only.
        """
        self._config = config
        self._device = acting_device(config.self_play.device)
        self._rng_for_game = rng_for_game
        self._scripted: dict[str, Player] = {}
        """Scripted members that a game has had."""
        self._benched: set[str] = set()
        self._newly_benched: list[BenchedMember] = []
        self._networks: dict[str, _Network] = {}
        self._spare: list[_Network] = []
        """Networks without a snapshot. On a GPU their captured graphs are worth keeping."""
        self._mix = SELF_PLAY_ONLY
        self._weights: dict[str, BufferLike] = {}
        self._opponents = [NO_OPPONENT] * num_games
        self._learner_turns = np.zeros(num_games, np.uint8)
        self._lanes_of: dict[str, list[int]] = {}

    def set_mix(self, mix: OpponentMix, weights: Sequence[BufferLike]) -> None:
        """Makes games that start from now on choose their opponent from `mix`.

        Args:
            mix: names and probabilities.
            weights: packed weights of `mix.snapshots`, in their order.
        """
        self._mix = mix
        self._weights = dict(zip(mix.snapshots, weights, strict=True))
        self._drop_unused_networks()

    def start_game(self, lane: int, game_index: int) -> None:
        """Chooses the opponent and the learner's side of a new game at random.

        Args:
            lane: the lane in which the game starts; its previous game has ended.
            game_index: index of the new game.

        Raises:
            WireError, CheckpointError: a snapshot's weights are damaged or of another
                architecture.
        """
        previous = self._opponents[lane]
        if previous != NO_OPPONENT:
            self._lanes_of[previous].remove(lane)
            if not self._lanes_of[previous]:
                del self._lanes_of[previous]
                self._drop_unused_networks()
        name = NO_OPPONENT
        if self._mix.pool_share > 0:
            name, self._learner_turns[lane] = self._choose_opponent(self._rng_for_game(game_index))
            if not self._make_ready(name):
                name = NO_OPPONENT
        self._opponents[lane] = name
        if name != NO_OPPONENT:
            self._lanes_of.setdefault(name, []).append(lane)

    def state(self) -> PairingState:
        """Returns the opponents in the games in play, for `restore`."""
        return PairingState(
            opponents=tuple(self._opponents),
            learner_turns=tuple(self._learner_turns.tolist()),
            networks=tuple(self._networks),
            num_mixes=self._mix.number,
            slots=self._mix.slots,
        )

    def restore(self, state: PairingState, weights: Sequence[BufferLike]) -> None:
        """Seats the opponents of a `state`, which may be another process's.

        An engine that cannot be started is benched, as in `start_game`.

        Args:
            state: of as many games.
            weights: packed weights of `state.networks`, in their order.

        Raises:
            CheckpointError: an opponent is neither scripted here nor among the networks, or
                weights are of another architecture.
            WireError: weights are damaged.
        """
        networks = dict(zip(state.networks, weights, strict=True))
        config = self._config.pool
        known = {NO_OPPONENT, *networks, *(config.members if config.share > 0 else ())}
        if unknown := [name for name in state.opponents if name not in known]:
            raise CheckpointError(
                f"the state of an actor has games against {shortened(unknown[0])}, which is not in "
                "the opponent pool."
            )
        self._networks = {name: self._load(buffer) for name, buffer in networks.items()}
        self._opponents = list(state.opponents)
        self._learner_turns = np.array(state.learner_turns, np.uint8)
        self._lanes_of = {}
        for lane, name in enumerate(state.opponents):
            if name != NO_OPPONENT:
                self._lanes_of.setdefault(name, []).append(lane)
        for name in tuple(self._lanes_of):
            self._make_ready(name)

    def opponent_of(self, lane: int) -> tuple[str, Color | None]:
        """Opponent of the game in a lane and the learner's side; ("", None) in self-play."""
        name = self._opponents[lane]
        return name, COLOR_OF_TURN[self._learner_turns[lane]] if name != NO_OPPONENT else None

    def learner_lanes(self, turns: npt.NDArray[np.uint8], first_lane: int = 0) -> Ints:
        """[K] lanes of a group, ascending, in which the learner is to move.

        Args:
            turns: [M] the side to move, 0 black, 1 white.
            first_lane: the actor's lane that is lane 0 of the group.
        """
        is_learner = np.ones(len(turns), np.bool_)
        for name in self._lanes_of:
            lanes = self._lanes_in_group(name, first_lane, len(turns))
            is_learner[lanes] = turns[lanes] == self._learner_turns[first_lane + lanes]
        return np.flatnonzero(is_learner)

    def ask_opponents(
        self, games: VectorGames, uniforms: Uniforms, first_lane: int = 0
    ) -> tuple[Ints, list[AskedNetwork]]:
        """Asks each opponent that is to move once, for all its games together.

        Networks are asked first: on a GPU they answer while scripted members and engines choose. A
        member that fails is benched, so that its lanes are the learner's from this ply on.

        Args:
            games: the M games of the group; not changed here, nor stepped before every network
                has answered.
            uniforms: [M] in [0, 1), one draw a lane.
            first_lane: the actor's lane that is lane 0 of the group.

        Returns:
            choices: [M] an index into the lane's legal moves, or a `rules.forfeit`, where a
                scripted member or an engine is to move; 0 elsewhere.
            asked: the networks, each to be finished before the group asks again.
        """
        choices = np.zeros(games.num_games, np.int64)
        asked: list[AskedNetwork] = []
        for name in sorted(self._lanes_of, key=lambda name: name not in self._networks):
            lanes = self._lanes_in_group(name, first_lane, games.num_games)
            lanes = lanes[games.turns[lanes] != self._learner_turns[first_lane + lanes]]
            if not len(lanes):
                continue
            if name in self._networks:
                acting = self._acting(name, first_lane, games.num_games)
                acting.begin(games, lanes, uniforms[lanes])
                asked.append(AskedNetwork(lanes, acting))
            else:
                try:
                    choices[lanes] = self._scripted[name].choose(games, lanes, uniforms[lanes])
                except PlayerError as error:
                    self._bench(name, error)
        return choices, asked

    def take_benched(self) -> tuple[BenchedMember, ...]:
        """Returns the members that were benched since the last call, each once."""
        benched = tuple(self._newly_benched)
        self._newly_benched.clear()
        return benched

    def _lanes_in_group(self, name: str, first_lane: int, num_lanes: int) -> Ints:
        """Lanes of a group, ascending, that a member plays in."""
        lanes = np.array(sorted(self._lanes_of[name])) - first_lane
        return lanes[(lanes >= 0) & (lanes < num_lanes)]

    def _choose_opponent(self, rng: np.random.Generator) -> tuple[str, int]:
        """Chooses an opponent's name and the learner's side, 0 black, 1 white."""
        is_pool, which, side = rng.random(3)
        num_free_slots = self._config.pool.networks_per_actor - len(self._networks)
        members = [
            (name, probability)
            for name, probability in self._mix.members
            if name not in self._benched
            and (name not in self._weights or name in self._networks or num_free_slots > 0)
        ]
        if is_pool >= self._mix.pool_share or not members:
            return NO_OPPONENT, 0
        ends = np.cumsum([probability for _, probability in members])
        index = int(np.searchsorted(ends, which * ends[-1], side="right"))
        name = members[min(index, len(members) - 1)][0]
        if name in self._weights and name not in self._networks:
            self._networks[name] = self._load(self._weights[name])
        return name, int(side >= 0.5)

    def _make_ready(self, name: str) -> bool:
        """Starts a scripted member that has not had a game yet; benches it if that fails.

        Returns:
            Whether the opponent can play.
        """
        if name == NO_OPPONENT or name in self._networks or name in self._scripted:
            return True
        try:
            self._scripted[name] = open_player(name, kinds=POOL_KINDS, forfeits=False)
        except PlayerError as error:
            self._bench(name, error)
            return False
        return True

    def _bench(self, name: str, error: PlayerError) -> None:
        """Gives a member no game any more, and those that it has to the learner."""
        logger.warning("%s is benched: %s", name, error)
        self._benched.add(name)
        self._newly_benched.append(BenchedMember(name, str(error)))
        for lane in self._lanes_of.pop(name, ()):
            self._opponents[lane] = NO_OPPONENT
        player = self._scripted.pop(name, None)
        if player is not None:
            player.close()

    def _load(self, weights: BufferLike) -> _Network:
        """A snapshot's network; its moves are sampled, as they were when it was the learner."""
        network = self._spare.pop() if self._spare else self._new_network()
        load_weights(network.model, weights)
        return network

    def _new_network(self) -> _Network:
        config = self._config
        model = build_model(config.model, seed=config.run.seed, amp=config.self_play.amp).eval()
        model.to(self._device)
        return _Network(model, {})

    def _acting(self, name: str, first_lane: int, num_games: int) -> ActingNetwork:
        """Returns what chooses the moves of a snapshot in a group of so many games."""
        network = self._networks[name]
        if first_lane not in network.acting:
            network.acting[first_lane] = acting_network(network.model, num_games)
        return network.acting[first_lane]

    def _drop_unused_networks(self) -> None:
        """Drops the networks that are not in the mix and have no game in play."""
        for name in list(self._networks):
            if name not in self._weights and name not in self._lanes_of:
                self._spare.append(self._networks.pop(name))
