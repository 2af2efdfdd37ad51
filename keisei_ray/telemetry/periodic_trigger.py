"""Decides when something periodic is due, counted in timesteps."""


class PeriodicTrigger:
    """Decides when something that happens every so many timesteps is due.

    It is due whenever `timestep // every` has grown since it was last due: once a call at most,
    however many boundaries were crossed, and never at 0.
    """

    def __init__(self, every: int, last: int = 0) -> None:
        """Starts counting.

        Args:
            every: distance of the boundaries in timesteps, >= 1.
            last: timestep up to which everything was done; a resumed run passes its own.

        Raises:
            ValueError: a negative `last` or an `every` below 1.
        """
        if every < 1 or last < 0:
            raise ValueError(f"every = {every} and last = {last}, expected >= 1 and >= 0.")
        self.every = every
        self._passed = last // every

    def is_due(self, timestep: int) -> bool:
        """Whether a boundary was crossed; asking again at the same timestep says no.

        Args:
            timestep: the run's timestep, not less than at the last call.
        """
        passed = timestep // self.every
        if passed <= self._passed:
            return False
        self._passed = passed
        return True
