"""The rule of which checkpoints stay."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.storage.retention import Candidate, places_to_prune

candidates = st.builds(
    lambda found: sorted(found, key=lambda c: c.timestep),
    st.lists(
        st.builds(
            Candidate,
            timestep=st.integers(0, 300),
            is_healthy=st.booleans(),
            elo=st.none() | st.integers(-3, 3).map(float),
            is_awaited=st.booleans(),
        ),
        max_size=12,
        unique_by=lambda c: c.timestep,
    ),
)
keeps = st.builds(
    CheckpointConfig,
    keep_last=st.integers(1, 4),
    keep_every_timesteps=st.none() | st.integers(1, 120),
    keep_best=st.integers(0, 3),
)


def kept(found: list[Candidate], keep: CheckpointConfig) -> list[Candidate]:
    gone = places_to_prune(found, keep)
    assert gone == sorted(set(gone))
    return [c for place, c in enumerate(found) if place not in gone]


@given(candidates, keeps)
@settings(deadline=None)
def test_everything_that_has_a_reason_stays_and_nothing_else(
    found: list[Candidate], keep: CheckpointConfig
) -> None:
    """Each reason is told here once more, slowly and in other words."""
    reasons = set(found[-keep.keep_last :])
    if keep.keep_every_timesteps:
        for multiple in range(keep.keep_every_timesteps, 301, keep.keep_every_timesteps):
            until = multiple + keep.keep_every_timesteps
            reasons |= set([c for c in found if multiple <= c.timestep < until][:1])
    for c in found:
        better = [o for o in found if o.elo is not None and c.elo is not None
                  and (o.elo, o.timestep) > (c.elo, c.timestep)]  # fmt: skip
        if c.elo is not None and len(better) < keep.keep_best:
            reasons.add(c)
        if keep.keep_best and c.is_awaited:
            reasons.add(c)
    reasons |= set([c for c in found if c.is_healthy][-1:])
    assert set(kept(found, keep)) == reasons


@given(candidates, keeps)
@settings(deadline=None)
def test_pruning_after_every_save_keeps_what_pruning_once_keeps(
    found: list[Candidate], keep: CheckpointConfig
) -> None:
    found = [replace(c, is_awaited=False) for c in found]
    there: list[Candidate] = []
    for candidate in found:
        there = kept([*there, candidate], keep)
    assert there == kept(found, keep)


def test_of_equal_ratings_the_newer_stays() -> None:
    found = [Candidate(t, elo=5.0) for t in (10, 20, 30)] + [Candidate(40)]
    assert places_to_prune(found, CheckpointConfig(keep_last=1, keep_best=1)) == [0, 1]


def test_a_run_that_diverges_keeps_its_way_back() -> None:
    found = [Candidate(10), Candidate(20), Candidate(30, False), Candidate(40, False)]
    assert places_to_prune(found, CheckpointConfig(keep_last=1)) == [0, 2]
