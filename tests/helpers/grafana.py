"""The Grafana board as data: its panels, expressions and variables."""

import json
from pathlib import Path
from typing import Any

BOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "cluster/grafana/keisei-ray.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = BOARD["panels"]

RAYS_OWN = {"ray_object_store_memory", "ray_resources", "ray_node_cpu_utilization"}
"""Metrics of Ray itself that the board shows and that every node has."""
RAYS_OWN_WITH_GPU = {"ray_node_gpus_utilization"}
"""Metrics of Ray itself that the board shows and that only a node with a GPU has."""


def expressions() -> list[str]:
    """Returns every PromQL expression of the board."""
    return [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


def queries() -> list[str]:
    """Returns the query of each variable of the board."""
    variables = BOARD["templating"]["list"]
    return [v["definition"] for v in variables if v["type"] == "query"]
