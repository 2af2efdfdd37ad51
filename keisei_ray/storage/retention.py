"""Rule of which checkpoints stay, here and at a URI: a pure function."""

from collections.abc import Sequence
from dataclasses import dataclass

from keisei_ray.config.sections import CheckpointConfig


@dataclass(frozen=True)
class Candidate:
    """A checkpoint as the rule sees it."""

    timestep: int
    is_healthy: bool = True
    elo: float | None = None
    """Rating of exactly its weights; None if they have none."""
    is_awaited: bool = False
    """Whether its rating may still come: its weights are being evaluated, or wait for it."""


def places_to_prune(candidates: Sequence[Candidate], keep: CheckpointConfig) -> list[int]:
    """Returns the indices of the checkpoints that no reason keeps.

    A checkpoint stays if it is

    - one of the `keep.keep_last` newest,
    - the first at or after a multiple of `keep.keep_every_timesteps`, 0 excepted,
    - one of the `keep.keep_best` with the highest Elo (of equals the newer), or its rating may
      still come and `keep.keep_best` is not 0,
    - the newest healthy one: a run that diverges must not remove the way back.

    Pruning after every save keeps what pruning once at the end keeps, as long as ratings do not
    change.

    Args:
        candidates: the intact checkpoints, oldest first.
        keep: settings of the run.
    """
    every = keep.keep_every_timesteps
    spans = [candidate.timestep // every if every else 0 for candidate in candidates]
    rated = [(c.elo, place) for place, c in enumerate(candidates) if c.elo is not None]
    stay = {place for _, place in sorted(rated, reverse=True)[: keep.keep_best]}
    stay |= {place for place, span in enumerate(spans) if span and span not in spans[:place]}
    if keep.keep_best:
        stay |= {place for place, candidate in enumerate(candidates) if candidate.is_awaited}
    healthy = [place for place, candidate in enumerate(candidates) if candidate.is_healthy]
    stay |= set(healthy[-1:])
    return [place for place in range(len(candidates) - keep.keep_last) if place not in stay]
