"""An alarm for self-play that has collapsed: the same short games again and again.

Two copies of one network can agree on an opening that leads into a mate; from then on they see
nothing else and unlearn the rest. Nothing in the losses shows it. What does: the policy is all but
certain of its moves, while games are a fraction of their former length or most positions of a
rollout come more than once in it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.events import Event, Notice, UpdateDiagnosed

WINDOW = 10
"""Updates that are looked at together; one alone is too noisy."""
MIN_ENTROPY = 0.5
"""Nats. A collapsed run had 0.13, healthy ones have 1.5 to 3.5: near the geometric middle."""
MIN_DISTINCT = 0.5
"""Share of distinct positions. Healthy runs are above 0.9."""
MIN_LENGTH = 0.25
"""Mean length of games, as a share of the longest so far. A collapsed run had games of 18 plies
after 290 at first (0.06). Games that end in mate sooner with better play, or by mate-in-one
finishing, halve it (0.5)."""
RECOVERY = 1.5
"""By how much the limits must be exceeded before a further alarm: a run at the edge is told
once."""


@dataclass
class CollapseAlarm:
    """Subscriber: watches a run's diagnostics, update by update.

    It rings when over the last `WINDOW` updates the mean entropy is below `MIN_ENTROPY` and either
    the mean share of distinct positions below `MIN_DISTINCT`, or the mean length of games below
    `MIN_LENGTH` of the largest such mean before. It rings again only after a recovery.
    """

    publish: Callable[[Event], None]
    """Where a warning goes."""
    _recent: deque[Diagnostics] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _longest: float = 0.0
    _is_collapsed: bool = False

    def handle(self, event: Event) -> None:
        """Publishes a `Notice` when self-play has just collapsed."""
        if isinstance(event, UpdateDiagnosed) and (warning := self.observe(event.diagnostics)):
            self.publish(Notice(warning, "WARNING"))

    def observe(self, diagnostics: Diagnostics) -> str | None:
        """Looks at the next update.

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
