"""The states of the self-play actors: what a checkpoint holds of them, and who plays on from one.

`newest_states` says which state that is.
"""

from collections.abc import Iterator, Mapping

from keisei_ray.config.schema import Config
from keisei_ray.distributed.pool_handle import PoolHandle
from keisei_ray.rollouts.actor_state import (
    ActorState,
    pack_state,
    pack_states,
    read_state,
    read_states,
)
from keisei_ray.storage.run_layout import ACTORS_FILE
from keisei_ray.telemetry.events import Notice
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.newest_states import NewestStates


class ActorStates(NewestStates[ActorState]):
    """Each actor's state after its newest consumed rollout."""

    def __init__(self, saved: bytes | None) -> None:
        """Args:
        saved: file of the checkpoint that is resumed; None if there is none.

        Raises:
            CheckpointError: the file is damaged.
        """
        resumed = read_states(saved) if saved is not None else {}
        super().__init__(resumed, pack_state, lambda report: report.state)

    def files(self, incarnations: Mapping[int, int]) -> dict[str, bytes]:
        """Returns the file of the actors that a checkpoint keeps, by name.

        Args:
            incarnations: newest incarnation of each actor. The games of an earlier one are lost.
        """
        return {ACTORS_FILE: pack_states(self.packed_of(incarnations))}

    def networks(self) -> set[str]:
        """Returns the snapshots whose networks the states need."""
        states = map(read_state, self.packed())
        return {name for state in states for name in state.pairing.networks}

    def drop_unfit(self, config: Config, progress: Progress, pool: PoolHandle) -> Iterator[Notice]:
        """Drops the states that no actor of this run can play on from, and yields why."""
        reasons: dict[str, int] = {}
        total = len(self.resumed)
        for actor_id, state in list(self.resumed.items()):
            reason = _unfit(state, config, progress, pool)
            if reason is not None:
                self.drop(actor_id)
                reasons[reason] = reasons.get(reason, 0) + 1
        for reason, count in reasons.items():
            yield Notice(f"games in play of {count} of {total} actors are not kept: {reason}")


def _unfit(state: ActorState, config: Config, progress: Progress, pool: PoolHandle) -> str | None:
    """Returns why no actor can play on from a state; None if one can."""
    play = config.self_play
    if config.pretrain.records:
        return "this run reads records"
    if play.num_actors != "auto":
        num_actors = config.at_most_max_actors(play.num_actors)
        if state.actor_id >= num_actors:
            return f"this run has {num_actors} self-play actors"
    if len(state.games.games) != play.games_per_actor:
        return (
            f"self_play.games_per_actor = {play.games_per_actor}, before it was "
            f"{len(state.games.games)}"
        )
    if state.max_plies != play.max_plies:
        return f"self_play.max_plies = {play.max_plies}, before it was {state.max_plies}"
    if missing := pool.missing(state):
        return f"{missing[0]} is no longer in the opponent pool"
    if progress.last_sequence.get(state.actor_id) != (state.incarnation, state.sequence - 1):
        return "they do not follow the rollouts that are counted"
    return None
