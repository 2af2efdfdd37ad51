"""The states of the self-play actors: what a checkpoint holds of them, and who plays on from one.

The state that goes with the run's counts is the one after the actor's newest *consumed* rollout.
What the actor has played since then is in no count, and a later session plays it again. Holds bytes
only, so that a checkpoint can be saved without Ray.
"""

from collections.abc import Iterator, Mapping, Sequence

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
from keisei_ray.telemetry.reports import CollectReport


class ActorStates:
    """Each actor's state after its newest consumed rollout."""

    def __init__(self, saved: bytes | None) -> None:
        """Args:
        saved: file of the checkpoint that is resumed; None if there is none.

        Raises:
            CheckpointError: the file is damaged.
        """
        self._resumed = read_states(saved) if saved is not None else {}
        """States from which an actor is still to play on."""
        self._newest = {
            actor_id: (state.incarnation, pack_state(state))
            for actor_id, state in self._resumed.items()
        }
        """Actor id -> incarnation and packed state."""

    def consume(self, reports: Sequence[CollectReport]) -> None:
        """Takes the states after the rollouts of a finished update."""
        for report in sorted(reports, key=lambda r: (r.header.incarnation, r.header.sequence)):
            if report.state:  # A reader of records has another, see `reader_states`.
                self._newest[report.header.actor_id] = report.header.incarnation, report.state

    def files(self, incarnations: Mapping[int, int]) -> dict[str, bytes]:
        """Returns the file of the actors that a checkpoint keeps, by name.

        Args:
            incarnations: newest incarnation of each actor. The games of an earlier one are lost.
        """
        newest = sorted(self._newest.items())
        alive = [state for i, (number, state) in newest if incarnations.get(i) == number]
        return {ACTORS_FILE: pack_states(alive)}

    def networks(self) -> set[str]:
        """Returns the snapshots whose networks the states need."""
        states = (read_state(packed) for _, packed in self._newest.values())
        return {name for state in states for name in state.pairing.networks}

    def take(self, actor_id: int) -> ActorState | None:
        """Returns the state from which an actor is to play on, once; None: with new games."""
        return self._resumed.pop(actor_id, None)

    def drop_unfit(self, config: Config, progress: Progress, pool: PoolHandle) -> Iterator[Notice]:
        """Drops the states that no actor of this run can play on from, and yields why."""
        reasons: dict[str, int] = {}
        total = len(self._resumed)
        for actor_id, state in list(self._resumed.items()):
            reason = _unfit(state, config, progress, pool)
            if reason is not None:
                del self._resumed[actor_id], self._newest[actor_id]
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
