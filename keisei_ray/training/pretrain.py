"""The command `pretrain`: a run of training whose rollouts come from game records.

Everything is that of any run (`session.py`); only the self-play actors are readers of records
(`pretraining/record_play.py`). Before Ray is started the records are looked at, and at the end the
network is measured once more, with its final weights.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import PretrainConfig
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import ConfigError
from keisei_ray.records.files import find_pieces
from keisei_ray.records.left_out import Tally
from keisei_ray.records.positions import positions_of
from keisei_ray.records.reading import read_games
from keisei_ray.records.stream import learned_games, nothing_usable, used_games
from keisei_ray.storage.remote.filesystem import check_uri, is_uri
from keisei_ray.telemetry.events import Event, RolloutArrived, Subscriber
from keisei_ray.tracking.terminal.draw import wrapped
from keisei_ray.training.run_start import absolute_path
from keisei_ray.training.session import Outcome, train

DEFAULTS: Final[dict[str, Any]] = {
    "learner.num_epochs": 1,
    "learner.gamma": 1.0,
    "learner.ent_coef": 0.0,
    "learner.target_kl": None,
    "schedule.mode": "overlap",
    "self_play.num_actors": 1,
    "self_play.device": "cpu",
}
"""Settings that have another default in `pretrain`: each position is seen once a pass, its target
is not discounted, and readers work ahead of the learner."""
SAID_AFTER_S: Final = 3.0
"""Seconds that the look at the records may take before a line says so."""


def pretrain(
    config: Config,
    console: Console,
    *,
    force: bool = False,
    is_trusted: bool = False,
    cluster: Cluster | None = None,
) -> Outcome:
    """Trains on records until `run.total_timesteps` or an interrupt, saves, and measures.

    Args:
        config: settings as given, with `pretrain.records`.
        console: where the view and the summary are drawn.
        force: see `train`, as for the next two.
        is_trusted: see `train`.
        cluster: see `train`.

    Raises:
        ConfigError: no records are named.
        RecordsError: a file is missing, or nothing in them can be learned from.
        StorageError: a URI cannot be used.
        Exception: the same as `train`.
    """
    if not config.pretrain.records:
        raise ConfigError(
            "pretrain: no records are named, expected --records PATH or pretrain.records. Name "
            "files or directories of games; `generate` makes some."
        )
    records = tuple(
        check_uri(path) if is_uri(path) else absolute_path(path) for path in config.pretrain.records
    )
    section = config.pretrain.model_copy(update={"records": records})
    with _said_if_slow(console):
        check_usable(section, _num_readers(config))
    config = config.model_copy(update={"pretrain": section})
    last = _LastCounts()
    outcome = train(
        config,
        console,
        force=force,
        is_trusted=is_trusted,
        cluster=cluster,
        subscribers=[Subscriber("records", last.take)],
    )
    told = [last.counts[reader] for reader in sorted(last.counts)]
    if outcome.checkpoint is not None and section.held_out:
        told.append(_measured(outcome.checkpoint, section))
    for line in told:
        _tell(line, console)
    return outcome


def _tell(line: str, console: Console) -> None:
    """Prints a line, on a terminal broken at blanks; a path stays whole."""
    shown = wrapped(Text(line), console.width, 2) if console.is_terminal else Text(line)
    console.print(shown, soft_wrap=True)


@contextlib.contextmanager
def _said_if_slow(console: Console) -> Iterator[None]:
    """Says that the records are read, once the block has taken long."""
    line = f"reading the records until there is something to learn from; {SAID_AFTER_S:g} s so far"
    timer = threading.Timer(SAID_AFTER_S, _tell, (line, console))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_usable(config: PretrainConfig, num_readers: int = 1) -> None:
    """Refuses records in which a reader finds nothing to learn from; reads no more than it takes.

    Raises:
        RecordsError: a file is missing, or nothing in them can be learned from.
        StorageError: a URI cannot be used.
    """
    for reader in range(num_readers):
        tally = Tally()
        found = (game for piece in find_pieces(config.records, tally) for game in read_games(piece))
        used = used_games(found, config, tally, reader, num_readers)
        games = (one.game for one in learned_games(used, config, tally))
        if next(positions_of(games, config, tally, num_lanes=1), None) is None:
            raise nothing_usable(config, tally, num_readers)


def _num_readers(config: Config) -> int:
    """Readers that are asked for; 1 where that is left to the hardware, which is refused."""
    asked = config.self_play.num_actors
    return 1 if asked == "auto" else config.at_most_max_actors(asked)


class _LastCounts:
    """Counts of each reader, as it has said last: what it has used and left out."""

    def __init__(self) -> None:
        self.counts: dict[int, str] = {}

    def take(self, event: Event) -> None:
        """Takes an event of the run."""
        if isinstance(event, RolloutArrived):
            self.counts[event.actor_id] = event.records


def _measured(checkpoint: Path, config: PretrainConfig) -> str:
    """Returns the figures of a checkpoint in words. Loads torch, after the run."""
    from keisei_ray.players.saved_model import load_model, open_checkpoint
    from keisei_ray.pretraining.held_out import measure, told
    from keisei_ray.records.stream import held_out_positions

    positions = held_out_positions(config, Tally())
    if positions is None:
        return "no game is held out: there are too few"
    _, found = open_checkpoint(checkpoint)
    return f"{checkpoint}: {told(measure(load_model(found), positions))}"
