"""Sizes of batches, chosen from what was measured (`schedule.tune_batch`). No torch here.

Self-play evaluates `games_per_actor` positions in a pass, a learner's thread `micro_batch` rows.
More at a time are faster up to a knee, behind which they only take memory, and time until a policy
is replaced. The plies of a rollout stay as many, so updates keep their size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from keisei_ray.config.schema import Config, validated

KNEE: Final = 0.95
"""Share of the highest rate that is enough."""
FACTORS: Final = (0.25, 0.5, 1, 2, 4)
"""Numbers of games that are tried, over the one in the settings."""
MIN_PLIES: Final = 8
"""Fewest plies of a rollout: advantages are cut off behind them."""
PARTS: Final = (1, 2, 4, 8)
"""Numbers of micro-batches that are tried for a thread's piece of a minibatch."""
MIN_ROWS: Final = 16


@dataclass(frozen=True)
class BatchRates:
    """Measured rates by size. Empty where nothing was measured."""

    playing: Mapping[int, float]
    """Games per actor -> plies/s of one actor."""
    learning: Mapping[int, float]
    """Rows of a micro-batch -> samples/s of a learner."""


def sizes_to_try(config: Config) -> tuple[list[int], list[int]]:
    """Returns the numbers of games and of rows to measure; none on GPUs.

    Args:
        config: with every hardware-dependent choice made.
    """
    play, learner = config.self_play, config.learner
    plies = config.timesteps_per_rollout
    games = [round(play.games_per_actor * factor) for factor in FACTORS]
    games = [n for n in games if n > 0 and plies % n == 0 and plies // n >= MIN_PLIES]
    rows = sorted({max(MIN_ROWS, _piece(config) // parts) for parts in PARTS})
    is_playing = play.device == "cpu" and not config.pretrain.records
    return games if is_playing else [], rows if learner.device == "cpu" else []


def minibatch_rows(config: Config) -> int:
    """Returns the rows of one learner's part of a minibatch."""
    rollouts = config.effective_rollouts_per_update or 1
    rows = rollouts * config.timesteps_per_rollout // config.learner.num_minibatches
    return max(1, rows // config.learner.num_learners)


def knee(rates: Mapping[int, float]) -> int:
    """Returns the smallest size whose rate is at least `KNEE` of the highest."""
    enough = KNEE * max(rates.values())
    return min(size for size, rate in rates.items() if rate >= enough)


def tuned(config: Config, rates: BatchRates) -> tuple[Config, str]:
    """Puts the sizes at the knees of the measured curves into the settings.

    Args:
        config: with every hardware-dependent choice made.
        rates: what was measured for `sizes_to_try`.

    Returns:
        The settings, and what was chosen and why, in one line.
    """
    values = config.model_dump()
    told = []
    if rates.playing:
        games = knee(rates.playing)
        plies = config.timesteps_per_rollout // games
        values["self_play"].update(games_per_actor=games, rollout_length=plies)
        told.append(
            f"self_play.games_per_actor={games} rollout_length={plies} "
            f"({_curve(rates.playing)} plies/s of an actor)"
        )
    if rates.learning:
        values["learner"]["micro_batch"] = knee(rates.learning)
        told.append(
            f"learner.micro_batch={values['learner']['micro_batch']} "
            f"({_curve(rates.learning)} samples/s of a learner)"
        )
    chosen = ", ".join(told) or "nothing, sizes on GPUs are set by hand"
    return validated(values), f"schedule.tune_batch has chosen {chosen}"


def _piece(config: Config) -> int:
    """Returns the rows of a minibatch that a thread of the learner works on."""
    return max(1, minibatch_rows(config) // (config.learner.num_threads or 1))


def _curve(rates: Mapping[int, float]) -> str:
    """Rates by size in words, e.g. `8: 900, 16: 1,350`."""
    return ", ".join(f"{size}: {rate:,.0f}" for size, rate in sorted(rates.items()))
