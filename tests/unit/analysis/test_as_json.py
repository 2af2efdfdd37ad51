"""Findings as JSON: the keys that docs/analyze.md promises, and what they mean."""

import json
from pathlib import Path

from keisei_ray.analysis.as_json import game_json, position_json
from keisei_ray.analysis.findings import find
from keisei_ray.analysis.turning_points import turning_points
from tests.helpers.analyses import evaluate, findings_of, game_source

DOCS = Path(__file__).parents[3] / "docs" / "analyze.md"
SOURCE = game_source("7g7f 3c3d 8h2b+ 3a2b", black="A")
FOUND = findings_of(
    SOURCE, [0.5, 0.3, 0.7, 0.9, 0.9], ["2g2f 8c8d", "8c8d", "8h2b+", "8b2b", "2g2f"]
)
GAME = game_json(SOURCE, FOUND, turning_points(FOUND, SOURCE.moves))


def test_a_position_is_seen_from_its_side_to_move() -> None:
    position = position_json(FOUND[1])
    assert (position["side_to_move"], position["value"], position["black_chance"]) == (
        "white", 0.4, 0.3,
    )  # fmt: skip
    assert (position["win"], position["draw"], position["loss"]) == (0.7, 0.0, 0.3)
    assert position["moves"] == [
        {
            "move": "8c8d",
            "prob": 0.5,
            "visits": 7,
            "value": 0.4,
            "draw": 0.1,
            "proof": None,
            "line": ["8c8d"],
        }
    ]


def test_a_game_has_its_moves_their_costs_and_its_turning_points() -> None:
    assert [position["played"] for position in GAME["positions"]] == [*SOURCE.moves, None]
    assert [position["cost"] for position in GAME["positions"]] == [0.2, 0.4, 0.0, 0.0, None]
    assert GAME["turning_points"][0] == {
        "move": 2,
        "side": "white",
        "played": "3c3d",
        "better": "8c8d",
        "line": ["8c8d"],
        "chance_before": 0.7,
        "chance_after": 0.3,
    }
    assert (GAME["black"], GAME["end"], GAME["fault"]) == ("A", None, None)


def test_the_network_alone_leaves_open_what_it_does_not_know() -> None:
    (found,) = find(SOURCE.positions[:1], evaluate, 0)
    first = position_json(found)["moves"][0]
    assert (first["visits"], first["value"], first["draw"]) == (0, None, None)
    assert json.loads(json.dumps(position_json(found))) == position_json(found)


def test_the_documentation_names_every_key() -> None:
    text = DOCS.read_text(encoding="utf-8")
    position = GAME["positions"][0]
    keys = [*GAME, *position, *position["moves"][0], *GAME["turning_points"][0]]
    keys += ["schema", "checkpoint", "timestep", "weights_version", "simulations", "game"]
    assert [key for key in keys if f"`{key}`" not in text] == []
