"""The states of the readers of records: what a checkpoint holds of them, and who reads on from one.

The counterpart of `actor_states` in pretraining; `newest_states` says which state that is. A reader
that takes the place of a dead one reads on after the newest rollout that was delivered.
"""

from collections.abc import Iterable, Iterator, Mapping

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.reader_state import (
    ReaderState,
    pack_reader,
    pack_readers,
    read_reader,
    read_readers,
)
from keisei_ray.storage.run_layout import READERS_FILE
from keisei_ray.telemetry.events import Notice
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport
from keisei_ray.training.newest_states import NewestStates


class ReaderStates(NewestStates[ReaderState]):
    """Each reader's state after its newest consumed rollout."""

    def __init__(self, saved: bytes | None) -> None:
        """Args:
        saved: file of the checkpoint that is resumed; None if there is none.

        Raises:
            CheckpointError: the file is damaged.
        """
        resumed = read_readers(saved) if saved is not None else {}
        super().__init__(resumed, pack_reader, lambda report: report.reader_state)

    def files(self, incarnations: Mapping[int, int]) -> dict[str, bytes]:
        """Returns the file of the readers that a checkpoint keeps, by name; none in self-play.

        Args:
            incarnations: newest incarnation of each reader. The place of an earlier one is lost.
        """
        alive = self.packed_of(incarnations)
        return {READERS_FILE: pack_readers(alive)} if alive else {}

    def go_on(self, number: int, delivered: Iterable[CollectReport]) -> None:
        """Lets the reader that takes a dead one's place read on where that one stopped.

        Args:
            number: of the reader; nothing is done for a self-play actor.
            delivered: reports of rollouts that no finished update has consumed.
        """
        sent = [r for r in delivered if r.header.actor_id == number and r.reader_state]
        if sent:
            newest = max(sent, key=lambda r: (r.header.incarnation, r.header.sequence))
            self.resumed[number] = read_reader(newest.reader_state)
        elif number in self._newest:
            self.resumed[number] = read_reader(self._newest[number][1])

    def drop_unfit(self, config: Config, progress: Progress) -> Iterator[Notice]:
        """Drops the states that no reader of this run can read on from, and yields why."""
        for number, state in list(self.resumed.items()):
            reason = _unfit(state, config, progress)
            if reason is not None:
                self.drop(number)
                yield Notice(f"the place of reader {number} in the records is not kept: {reason}")


def _unfit(state: ReaderState, config: Config, progress: Progress) -> str | None:
    """Returns why no reader can read on from a state; None if one can."""
    if not config.pretrain.records:
        return "this run plays itself"
    num_actors = config.self_play.num_actors
    assert num_actors != "auto", "refused by checks.check_pretrain"
    num_readers = config.at_most_max_actors(num_actors)
    if num_readers != state.num_readers:
        return f"this run has {num_readers} readers, before it had {state.num_readers}"
    if progress.last_sequence.get(state.actor_id) != (state.incarnation, state.sequence - 1):
        return "it does not follow the rollouts that are counted"
    return None
