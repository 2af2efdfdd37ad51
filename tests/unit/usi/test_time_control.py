"""How long the engine thinks: never beyond the clock, and not all of it on one move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.usi.protocol import Limits
from keisei_ray.usi.time_control import DEFAULT_SIMULATIONS, Budget, budget


def given_budget(limits: Limits, turn: int = 0, ply: int = 0, simulations: int = 0) -> Budget:
    return budget(limits, turn=turn, ply=ply, margin_ms=200, simulations=simulations)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # Byoyomi alone: all of it, less the margin; of a short one, half.
        (Limits(btime=0, wtime=0, byoyomi=1000), Budget(0.8, 0.8, None)),
        (Limits(byoyomi=1000), Budget(0.8, 0.8, None)),
        (Limits(btime=0, wtime=0, byoyomi=100), Budget(0.05, 0.05, None)),
        (Limits(movetime=500), Budget(0.3, 0.3, None)),
        (Limits(btime=0, wtime=0), Budget(0.0, 0.0, None)),
        (Limits(btime=0, binc=2000), Budget(1.8, 1.8, None)),
        # A share of the clock, byoyomi and most of the increment on top.
        (Limits(btime=60_000, wtime=1), Budget(2.0, 59.8, None, saves_time=True)),
        (Limits(btime=60_000, byoyomi=5000), Budget(7.0, 64.8, None, saves_time=True)),
        (Limits(btime=60_000, binc=5000), Budget(6.0, 59.8, None, saves_time=True)),
        # A quarter of the clock at most.
        (Limits(btime=1000, binc=60_000), Budget(0.25, 0.8, None, saves_time=True)),
        # No clock.
        (Limits(nodes=50), Budget(None, None, 50)),
        (Limits(nodes=0), Budget(None, None, 1)),
        (Limits(), Budget(None, None, DEFAULT_SIMULATIONS)),
        (Limits(infinite=True, btime=5), Budget(None, None, None)),
        (Limits(mate=5000), Budget(4.8, 4.8, None)),
        (Limits(mate=5000, nodes=50), Budget(4.8, 4.8, 50)),
    ],
)
def test_effort(limits: Limits, expected: Budget) -> None:
    found = given_budget(limits)
    assert rounded(found) == rounded(expected)


def rounded(b: Budget) -> tuple[object, ...]:
    times = [None if t is None else round(t, 6) for t in (b.target_s, b.limit_s)]
    return (*times, b.simulations, b.saves_time)


def test_white_has_its_own_clock() -> None:
    limits = Limits(btime=600_000, wtime=60_000, binc=9000, winc=0)
    assert given_budget(limits, turn=1).target_s == 2.0


def test_the_option_and_nodes_both_limit_simulations() -> None:
    assert given_budget(Limits(nodes=50), simulations=20).simulations == 20
    assert given_budget(Limits(nodes=50), simulations=90).simulations == 50
    assert given_budget(Limits(byoyomi=1000), simulations=90) == Budget(0.8, 0.8, 90)
    # An analysis goes on until it is stopped, whatever strength the option is for.
    assert given_budget(Limits(infinite=True), simulations=90).simulations is None


times = st.none() | st.integers(0, 10**7)


@given(times, times, times, times, times, st.integers(0, 1), st.integers(0, 500),
       st.integers(0, 5000))  # fmt: skip
def test_an_answer_is_due_before_the_time_is_over(
    btime: int | None, wtime: int | None, byoyomi: int | None, binc: int | None,
    winc: int | None, turn: int, ply: int, margin: int,
) -> None:  # fmt: skip
    limits = Limits(btime=btime, wtime=wtime, byoyomi=byoyomi, binc=binc, winc=winc)
    found = budget(limits, turn=turn, ply=ply, margin_ms=margin, simulations=0)
    clock, increment = (btime, wtime)[turn] or 0, (binc, winc)[turn] or 0
    allowed = clock + (byoyomi or 0) or increment
    if found.limit_s is None:
        assert found.simulations == DEFAULT_SIMULATIONS
    else:
        assert found.target_s is not None
        assert 0 <= found.target_s <= found.limit_s <= allowed / 1000
        assert found.limit_s <= max(allowed - margin, allowed / 2) / 1000 + 1e-9


def test_the_clock_lasts_for_a_whole_game() -> None:
    clock = 60_000.0
    for ply in range(0, 300, 2):
        target = given_budget(Limits(btime=int(clock)), ply=ply).target_s
        assert target is not None
        clock -= 1000 * target
    assert clock > 0
