"""An alarm for self-play that has collapsed: it plays the same short games again and again.

Two copies of one network can agree on an opening that leads into a mate; from then on they see
nothing else and unlearn the rest. The losses do not show it. Three other figures together do: the
policy is almost certain of its moves, while games last a fraction of their former length, or most
positions of a rollout occur more than once in it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.events import Event, Notice, UpdateDiagnosed

WINDOW = 10
"""Updates over which the means are taken; a single update is too noisy."""
MIN_ENTROPY = 0.5
"""Lower limit of the policy's entropy, in nats. A collapsed run had 0.13. Healthy runs end at
0.47 to 1.1, so this limit alone raises no alarm."""
MIN_DISTINCT = 0.5
"""Lower limit of the fraction of distinct positions. Healthy runs are above 0.9."""
MIN_LENGTH = 0.25
"""Lower limit of the games' mean length, as a fraction of the largest mean so far. A collapsed run
had games of 18 plies after 290 at first (0.06). Better play, or mate-in-one finishing, ends games
sooner, but only halves the length (0.5)."""
RECOVERY = 1.5
"""Factor by which the limits must be exceeded before there can be another alarm, so that a run at
the limits causes only one."""


@dataclass
class CollapseAlarm:
    """Subscriber that watches a run's diagnostics, update by update.

    It warns when over the last `WINDOW` updates the mean entropy is below `MIN_ENTROPY`, and either
    the mean fraction of distinct positions is below `MIN_DISTINCT`, or the mean length of games is
    below `MIN_LENGTH` times the largest such mean before. It warns again only after a recovery.
    """

    publish: Callable[[Event], None]
    """Puts an event on the bus that this subscriber is on."""
    _recent: deque[Diagnostics] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _longest: float = 0.0
    _is_collapsed: bool = False

    def handle(self, event: Event) -> None:
        """Publishes a `Notice` when self-play has just collapsed."""
        if isinstance(event, UpdateDiagnosed) and (warning := self.observe(event.diagnostics)):
            self.publish(Notice(warning, "WARNING"))

    def observe(self, diagnostics: Diagnostics) -> str | None:
        """Takes the next update into account.

        Returns:
            A warning when self-play has just been found collapsed, else None.
        """
        recent = self._recent
        recent.append(diagnostics)
        lengths = [d.game_length_mean for d in recent if d.game_length_mean is not None]
        if len(recent) < WINDOW or not lengths:
            return None
        length = sum(lengths) / len(lengths)
        entropy = sum(d.entropy for d in recent) / WINDOW
        distinct = sum(d.distinct_positions for d in recent) / WINDOW
        self._longest = max(self._longest, length)
        slack = RECOVERY if self._is_collapsed else 1.0
        was_collapsed = self._is_collapsed
        self._is_collapsed = entropy < slack * MIN_ENTROPY and (
            distinct < slack * MIN_DISTINCT or length < slack * MIN_LENGTH * self._longest
        )
        if was_collapsed or not self._is_collapsed:
            return None
        return (
            f"self-play has collapsed: over the last {WINDOW} updates games last {length:.0f} "
            f"plies (up to {self._longest:.0f} before), the policy's entropy is {entropy:.2f} nats "
            f"and {distinct:.0%} of a rollout's positions are distinct. Go back to a checkpoint "
            "from before and raise learner.ent_coef, self_play.random_opening_plies or pool.share."
        )
