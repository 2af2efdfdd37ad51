"""Games that persons have open: who the opponent is, who may change them, when they end."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from keisei_ray.rollouts.finished_game import Color
from keisei_ray.shogi.notation import Heading
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.web.human_game import HumanGame

MAX_SESSIONS: Final = 32
IDLE_S: Final = 3600.0
"""Seconds without a request after which a game is given up."""
CROWDED_IDLE_S: Final = 300.0
"""The same where another game wants its place."""


@dataclass
class Clock:
    """Time that the person has left; the network has no clock."""

    main_s: float
    """Seconds for all moves together, as far as they are not used."""
    move_s: float
    """Seconds for each move after that."""

    def left_s(self, spent_s: float) -> float:
        """Returns the seconds that are left for a move; negative: it is too late.

        Args:
            spent_s: seconds that the person has spent on it.
        """
        return self.main_s + self.move_s - spent_s

    def spend(self, spent_s: float) -> None:
        """Takes the time of a move from the main time."""
        self.main_s = max(0.0, self.main_s - spent_s)


@dataclass
class Session:
    """One game that is open."""

    key: str
    """Name of the game in addresses; it cannot be guessed."""
    run: str
    """Name of the run in addresses."""
    run_dir: Path
    uri: str | None
    """URI of the run that the directory is a copy of; None: it is the run itself."""
    opponent: dict[str, Any]
    """The checkpoint, see `opponents.opponents`."""
    game: HumanGame
    simulations: int
    temperature: float
    clock: Clock | None = None
    """Time that the person has left; None: there is no clock."""
    hints: int = 0
    """Hints that the person asked for."""
    saved_as: str | None = None
    """Name of the finished game's files; None: it is not saved."""
    save_error: str | None = None
    """Reason why it could not be saved."""
    used_s: dict[Color, float] = field(default_factory=lambda: {"black": 0.0, "white": 0.0})
    """Thinking time of each side."""
    asked: float = field(default_factory=time.monotonic)
    """Time of the last request, on the clock of `time.monotonic`."""
    moved: float = field(default_factory=time.monotonic)
    """Time of the last change of the position, on the same clock."""
    is_busy: bool = False
    """Whether a request is changing the game."""

    @contextmanager
    def changing(self) -> Iterator[HumanGame]:
        """Lets one request at a time change the game.

        Raises:
            HTTPConflict: another one is at it.
        """
        if self.is_busy:
            raise web.HTTPConflict(text="a move is being made in this game: wait for it")
        self.is_busy = True
        try:
            yield self.game
        finally:
            self.is_busy = False

    def note_move(self, color: Color) -> None:
        """Adds the time since the last change to that of a side."""
        now = time.monotonic()
        self.used_s[color] += now - self.moved
        if self.clock is not None and color == self.game.human:
            self.clock.spend(now - self.moved)
        self.moved = now

    @property
    def left_s(self) -> float | None:
        """Seconds that the person has left for the move; None: there is no clock."""
        if self.clock is None:
            return None
        return self.clock.left_s(time.monotonic() - self.moved if self.game.is_humans_turn else 0)

    @property
    def is_out_of_time(self) -> bool:
        """Whether the person has lost on time, and the game does not say so yet."""
        return self.game.is_humans_turn and self.left_s is not None and self.left_s < 0

    @property
    def opponent_name(self) -> str:
        """Name of the opponent in records, as matches have it."""
        search = f"+{self.simulations}sims" if self.simulations else ""
        return f"{self.opponent['name']}{search}"

    def heading(self) -> Heading:
        """Returns the lines above the moves in KIF and CSA."""
        network, person = visible(f"Keisei Ray {self.opponent_name}"), "Human"
        is_black = self.game.human == "black"
        return Heading(
            event=f"Game against the run {visible(self.run_dir.name)}",
            black=person if is_black else network,
            white=network if is_black else person,
        )

    def facts(self) -> dict[str, Any]:
        """Returns what a record says beside the game itself."""
        return {
            "opponent": self.opponent_name,
            "human_color": self.game.human,
            "timestep": self.opponent["timestep"],
            "weights_version": self.opponent["weights_version"],
            "simulations": self.simulations,
            "temperature": self.temperature,
            "take_backs": self.game.take_backs,
            "hints": self.hints,
            "human_s": round(self.used_s[self.game.human], 1),
        }

    def state(self) -> dict[str, Any]:
        """Returns what the page shows, as JSON types."""
        return {
            "game": self.key,
            "run": self.run,
            "opponent": {key: self.opponent[key] for key in ("name", "label", "elo")},
            "simulations": self.simulations,
            "temperature": self.temperature,
            "used_s": self.used_s,
            "left_s": None if self.left_s is None else round(self.left_s, 1),
            "saved_as": self.saved_as,
            "save_error": self.save_error,
            **self.game.state(),
        }


class Sessions:
    """Open games by their key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def has_game_going_on(self) -> bool:
        """Whether there is a game that is neither over nor given up."""
        oldest = time.monotonic() - IDLE_S
        return any(s.game.end is None and s.asked >= oldest for s in self._by_key.values())

    def open(self, **fields: Any) -> Session:
        """Opens a game.

        Args:
            fields: those of `Session` but for its key.

        Raises:
            HTTPTooManyRequests: too many are open.
        """
        self._give_up(IDLE_S)
        if len(self) >= MAX_SESSIONS:
            self._give_up(CROWDED_IDLE_S)
        if len(self) >= MAX_SESSIONS:
            raise web.HTTPTooManyRequests(
                text=f"{MAX_SESSIONS} games are being played here, expected fewer: try again in "
                f"{CROWDED_IDLE_S / 60:.0f} minutes"
            )
        session = Session(secrets.token_urlsafe(12), **fields)
        self._by_key[session.key] = session
        return session

    def get(self, key: str) -> Session:
        """Returns an open game.

        Raises:
            HTTPNotFound: there is none of this key.
        """
        session = self._by_key.get(key)
        if session is None:
            raise web.HTTPNotFound(
                text="this game is not open any more: games are given up after an hour without a "
                "move, and when the server ends. Begin another one"
            )
        session.asked = time.monotonic()
        return session

    def _give_up(self, idle_s: float) -> None:
        oldest = time.monotonic() - idle_s
        for session in list(self._by_key.values()):
            if session.asked < oldest and not session.is_busy:
                del self._by_key[session.key]
