"""Rates, means and fractions of counts. Pure functions; each is None where it is undefined."""


def per_second(count: float, seconds: float) -> float | None:
    """Returns a rate, not smoothed.

    Both rates of `UpdateMetrics` are computed here: `sps` from the timesteps and the time since
    the last update, `sps_total` from the run's `timestep` and `wall_time_s`.

    Args:
        count: what was counted, >= 0.
        seconds: how long it took, >= 0.

    Returns:
        count / seconds, or None where no time has passed.

    Raises:
        ValueError: either is negative; a clock or a counter has gone backwards.
    """
    if count < 0 or seconds < 0:
        raise ValueError(f"rate of {count} in {seconds} s: both must be >= 0.")
    return count / seconds if seconds > 0 else None


def mean(total: float, count: int) -> float | None:
    """Returns `total / count`, or None where `count` is 0."""
    return total / count if count else None


def fraction(part: float, whole: float) -> float | None:
    """Returns `part / whole` in [0, 1], or None where `whole` is 0."""
    return part / whole if whole else None


def remaining_s(timestep: int, total_timesteps: int, rate: float | None) -> float | None:
    """Returns the seconds until `total_timesteps` at `rate` timesteps a second.

    Returns:
        0.0 once the total is reached; None where the rate is unknown or zero.
    """
    if timestep >= total_timesteps:
        return 0.0
    return (total_timesteps - timestep) / rate if rate else None
