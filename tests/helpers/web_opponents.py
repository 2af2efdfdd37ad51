"""A network of the pages that plays by a script, without a process."""

from collections.abc import Callable
from typing import Any

from keisei_ray.errors import CheckpointError

MATED: dict[str, str] = {
    "7g7f": "3c3d",
    "7g7f 3c3d 8h2b+": "4a5b",
    "7g7f 3c3d 8h2b+ 4a5b B*4b": "5a4a",
}
"""Moves so far -> its move, in a game in which it lets itself be mated by 2b3a."""
SHUFFLED = {"2h3h": "8b7b", "3h2h": "7b8b"}
"""Move of the person -> its own, in a game that repeats itself."""
FINDING: dict[str, Any] = {
    "ply": 0,
    "sfen": "",
    "side_to_move": "black",
    "value": 0.2,
    "win": 0.5,
    "draw": 0.2,
    "loss": 0.3,
    "black_chance": 0.6,
    "proof": None,
    "over": None,
    "visits": 10,
    "moves": [
        {
            "move": "7g7f",
            "prob": 0.7,
            "visits": 8,
            "value": 0.2,
            "draw": 0.2,
            "proof": None,
            "line": ["7g7f", "3c3d"],
            "western": ["P-7f", "P-3d"],
            "japanese": ["\uff17\u516d\u6b69", "\uff13\u56db\u6b69"],
        }
    ],
}


class ScriptedThinker:
    """Stands in for `Thinker`.

    Attributes:
        asked: the questions.
        broken: message of an error that it answers with; empty: none.
        is_needed: as of `Thinker`.
    """

    def __init__(self, is_needed: Callable[[], bool]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.broken = ""
        self.is_needed = is_needed

    async def ask(self, **question: Any) -> Any:
        self.asked.append(question)
        if self.broken:
            raise CheckpointError(self.broken)
        moves = question["moves"]
        if question["kind"] == "load":
            return None
        if question["kind"] == "findings":
            count = min(question.get("num_positions", 1), len(moves) + 1 - question["first_ply"])
            return [{**FINDING, "ply": question["first_ply"] + i} for i in range(count)]
        if question["kind"] == "game":
            return {"moves": [*moves, "2g2f"], "result": "truncated", "reason": "max_plies"}
        return MATED.get(" ".join(moves)) or SHUFFLED[moves[-1]]

    async def close(self) -> None:
        """Ends nothing."""
