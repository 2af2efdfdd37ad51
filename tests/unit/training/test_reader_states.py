"""Which readers' states a checkpoint holds, and from which of them a reader can read on."""

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.reader_state import (
    Place,
    ReaderState,
    pack_reader,
    read_readers,
)
from keisei_ray.rollouts.rollout import RolloutHeader
from keisei_ray.storage.run_layout import READERS_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport
from keisei_ray.training.reader_states import ReaderStates
from tests.helpers.tiny import N, T, tiny_config


def report(reader: int, sequence: int) -> CollectReport:
    """Returns the report on a rollout; the state after it counts that rollout too."""
    after = pack_reader(ReaderState(reader, 0, sequence + 1, 2, Place(offset=sequence)))
    header = RolloutHeader(reader, 0, sequence, 0, T, N)
    return CollectReport(header, (), T * N, 1.0, 0, 0, 0.0, "", "", reader_state=after)


REPORTS = report(1, 5), report(0, 3), report(1, 4)


def file_of(**incarnations: int) -> bytes:
    states = ReaderStates(None)
    states.consume(REPORTS)
    newest = {0: 0, 1: 0} | {int(k[1:]): v for k, v in incarnations.items()}
    return states.files(newest)[READERS_FILE]


def test_a_checkpoint_holds_the_state_after_each_readers_newest_consumed_rollout() -> None:
    found = read_readers(file_of())
    assert {i: s.place.offset for i, s in found.items()} == {0: 3, 1: 5}
    assert set(read_readers(file_of(a0=1))) == {1}


def test_self_play_has_no_such_file() -> None:
    assert ReaderStates(None).files({0: 0}) == {}


def readers(number: int, records: tuple[str, ...] = ("games",)) -> Config:
    return tiny_config(
        self_play={"num_actors": number},
        schedule={"rollouts_per_update": None},
        pretrain={"records": records},
    )


@pytest.mark.parametrize(
    ("config", "newest", "said"),
    [
        (readers(2), 5, []),
        (readers(3), 5, ["this run has 3 readers, before it had 2"] * 2),
        (readers(2, ()), 5, ["this run plays itself"] * 2),
        (readers(2), 6, ["it does not follow the rollouts that are counted"]),
    ],
)
def test_what_a_resumed_run_cannot_keep_is_dropped_and_said(
    config: Config, newest: int, said: list[str]
) -> None:
    states, progress = ReaderStates(file_of()), Progress()
    progress.consume([report(0, 3).header, report(1, newest).header], [])
    notices = [notice.message for notice in states.drop_unfit(config, progress)]
    assert [n.partition(" in the records is not kept: ")[2] for n in notices] == said
    assert sum(states.take(reader) is None for reader in (0, 1)) == len(said)
    assert states.take(0) is None
