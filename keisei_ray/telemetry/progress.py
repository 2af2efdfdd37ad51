"""The run's counts: one object, written by the driver alone, saved with every checkpoint.

A timestep is counted when its rollout is consumed, and a game when the rollout in which it ended
is consumed. So nothing that is delivered twice counts twice, and nothing that is lost counts.
Nothing here reads a clock or a file, or uses Ray.

T: plies of a rollout. N: its games side by side.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from reprlib import repr as shortened
from typing import Any, Final, get_args

from keisei_ray.config.json_text import parse_json
from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.finished_game import FinishedGame, GameResult
from keisei_ray.rollouts.rollout import RolloutHeader

_RESULTS = get_args(GameResult)
_ADDED: Final = {"updates_undone", "timesteps_lost"}
"""Counts that older checkpoints lack; 0 there."""
_ACTOR_ID: Final = re.compile("[0-9]{1,18}")


@dataclass
class Progress:
    """Counts of the run so far. Only the driver changes them, through the methods.

    Always: black_wins + white_wins + draws + truncated = games_total.
    """

    timestep: int = 0
    """Plies in rollouts that finished updates have consumed, each once."""
    timesteps_collected: int = 0
    """Plies in rollouts that actors delivered, consumed or not."""
    updates: int = 0
    """Updates finished, those that were undone included."""
    weights_version: int = 0
    """Version of the newest weights."""
    games_total: int = 0
    """Finished games, each once."""
    black_wins: int = 0
    """Games that black won."""
    white_wins: int = 0
    """Games that white won."""
    draws: int = 0
    """Games that were drawn."""
    truncated: int = 0
    """Games stopped by the ply cap."""
    game_plies_total: int = 0
    """Plies of all finished games, random openings included."""
    wall_time_s: float = 0.0
    """Seconds spent in the run, over all its resumes."""
    rollouts_rejected: int = 0
    """Rollouts delivered that could not be used: damaged, delivered twice, or lost with its
    node."""
    timesteps_lost: int = 0
    """Plies of timesteps_collected that no update will consume: of rejected rollouts, and of those
    that waited for an update when a session ended."""
    actor_restarts: int = 0
    """Deaths of self-play actors after which the run went on."""
    updates_undone: int = 0
    """Updates that were undone because they made something infinite or not a number."""
    incarnations: dict[int, int] = field(default_factory=dict)
    """Actor id -> newest incarnation given to it."""
    last_sequence: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Actor id -> (incarnation, sequence) of its newest rollout consumed."""

    def begin_session(self) -> int:
        """Goes on after a resume, without the rollouts that waited for an update.

        An incarnation of which nothing was consumed has left no trace: its number is free again.

        Returns:
            Plies that were delivered and are lost.
        """
        lost = max(0, self.timesteps_collected - self.timestep - self.timesteps_lost)
        self.timesteps_lost += lost
        self.incarnations = {
            actor_id: incarnation for actor_id, (incarnation, _) in self.last_sequence.items()
        }
        return lost

    def next_incarnation(self, actor_id: int) -> int:
        """Returns the next number to start an actor with new games under: 0, 1, ...

        A process that plays on from an actor's state has the incarnation in that state.
        """
        incarnation = self.incarnations.get(actor_id, -1) + 1
        self.incarnations[actor_id] = incarnation
        return incarnation

    def is_duplicate(self, header: RolloutHeader) -> bool:
        """Whether this rollout, or a later one of its actor, was consumed already.

        Each actor's rollouts are consumed in the order in which it produced them, so the
        newest (incarnation, sequence) of each actor decides.
        """
        last = self.last_sequence.get(header.actor_id)
        return last is not None and (header.incarnation, header.sequence) <= last

    def collect(self, header: RolloutHeader) -> None:
        """Counts a rollout that an actor delivered, whether it will be consumed or rejected."""
        self.timesteps_collected += header.timesteps

    def consume(self, headers: Sequence[RolloutHeader], games: Sequence[FinishedGame]) -> None:
        """Counts the rollouts of one update and the games that ended in them.

        After an error no count has changed.

        Args:
            headers: headers of the rollouts of a finished update, in any order.
            games: all games that these rollouts report as finished.

        Raises:
            ValueError: a rollout was consumed before or comes twice, a game comes twice or
                belongs to none of the rollouts, or its result is unknown.
        """
        last = dict(self.last_sequence)
        for header in sorted(headers, key=lambda h: (h.actor_id, h.incarnation, h.sequence)):
            position = (header.incarnation, header.sequence)
            if header.actor_id in last and position <= last[header.actor_id]:
                raise ValueError(
                    f"rollout {header.sequence} of actor {header.actor_id}, incarnation "
                    f"{header.incarnation}, was delivered before: {last[header.actor_id]} was the "
                    "newest consumed. Drop rollouts of which is_duplicate() is true."
                )
            last[header.actor_id] = position
        _check_games(headers, games)
        self.last_sequence = last
        self.timestep += sum(header.timesteps for header in headers)
        results = Counter(game.result for game in games)
        self.black_wins += results["black_win"]
        self.white_wins += results["white_win"]
        self.draws += results["draw"]
        self.truncated += results["truncated"]
        self.games_total += len(games)
        self.game_plies_total += sum(game.plies for game in games)

    def finish_update(self, weights_version: int, *, is_undone: bool = False) -> None:
        """Counts an update. Its timesteps are counted by `consume`.

        Args:
            weights_version: version that it published.
            is_undone: whether that holds the same weights as the version before.

        Raises:
            ValueError: the version is not newer than the last: a version names one set of weights.
        """
        if weights_version <= self.weights_version:
            raise ValueError(
                f"weights_version = {weights_version} after an update, expected more than "
                f"{self.weights_version}: a version names one set of weights."
            )
        self.updates += 1
        self.updates_undone += is_undone
        self.weights_version = weights_version

    def reject_rollout(self, header: RolloutHeader) -> None:
        """Counts a delivered rollout that will not be consumed."""
        self.rollouts_rejected += 1
        self.timesteps_lost += header.timesteps

    def restart_actor(self) -> None:
        """Counts a death of a self-play actor after which the run goes on."""
        self.actor_restarts += 1

    def add_wall_time(self, seconds: float) -> None:
        """Adds to the time spent in the run.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if not 0.0 <= seconds < float("inf"):
            raise ValueError(f"seconds = {seconds}, expected a finite number >= 0.")
        self.wall_time_s += seconds

    def to_json(self) -> str:
        """Returns all counts as JSON; `from_json` is the inverse."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Progress":
        """Reads the JSON that `to_json` writes.

        Raises:
            CheckpointError: the text is not JSON or has other keys, or counts contradict each
                other.
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            raise CheckpointError(f"progress: not JSON: {error}.") from error
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) | _ADDED != names:
            odd = (
                shortened(sorted(names ^ set(values)))
                if isinstance(values, dict)
                else type(values).__name__
            )
            raise CheckpointError(f"progress: expected the counts of a run, differs in {odd}.")
        values["incarnations"] = _read_map(values, "incarnations", 1)
        values["last_sequence"] = _read_map(values, "last_sequence", 2)
        progress = cls(**values)
        progress._check_read()
        return progress

    def _check_read(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type is int and (type(value) is not int or value < 0):
                raise CheckpointError(
                    f"progress: {f.name} = {shortened(value)}, expected an integer >= 0."
                )
        if type(self.wall_time_s) not in (int, float) or not 0 <= self.wall_time_s < float("inf"):
            raise CheckpointError(
                f"progress: wall_time_s = {shortened(self.wall_time_s)}, expected a finite number "
                ">= 0."
            )
        by_result = self.black_wins + self.white_wins + self.draws + self.truncated
        if by_result != self.games_total:
            raise CheckpointError(
                f"progress: games_total = {self.games_total}, but the results add up to "
                f"{by_result}."
            )


def _check_games(headers: Sequence[RolloutHeader], games: Sequence[FinishedGame]) -> None:
    players = {(header.actor_id, header.incarnation) for header in headers}
    seen: set[str] = set()
    for game in games:
        if game.game_id in seen:
            raise ValueError(f"game {game.game_id} is reported twice, expected once.")
        seen.add(game.game_id)
        if (game.actor_id, game.incarnation) not in players:
            raise ValueError(f"game {game.game_id} belongs to none of the rollouts consumed.")
        if game.result not in _RESULTS:
            raise ValueError(
                f"game {game.game_id}: result = {game.result!r}, expected one of "
                f"{', '.join(_RESULTS)}."
            )


def _read_map(values: Mapping[str, Any], name: str, length: int) -> dict[int, Any]:
    """Reads a map by actor id, whose keys are text in JSON and whose pairs are lists."""
    entries = values[name]
    result: dict[int, Any] = {}
    for key, value in entries.items() if isinstance(entries, dict) else [("", None)]:
        numbers = value if length > 1 and isinstance(value, list) else [value]
        if not (
            _ACTOR_ID.fullmatch(key)
            and len(numbers) == length
            and all(type(number) is int and number >= 0 for number in numbers)
        ):
            raise CheckpointError(
                f"progress: {name} = {shortened(entries)}, expected actor id -> {length} integers "
                ">= 0."
            )
        result[int(key)] = tuple(numbers) if length > 1 else value
    return result
