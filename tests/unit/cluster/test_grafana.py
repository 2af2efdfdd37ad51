"""The Grafana board asks only for what is exported, and has the form that Grafana reads."""

import itertools
import re
from typing import Any

import pytest

from keisei_ray.telemetry.metrics import METRICS
from keisei_ray.tracking import prometheus as names
from tests.helpers.grafana import BOARD, PANELS, RAYS_OWN, RAYS_OWN_WITH_GPU, expressions, queries

LABELS = {
    "run",
    names.RESULT_LABEL,
    names.ROLE_LABEL,
    names.OPPONENT_LABEL,
    names.KIND_LABEL,
    "le",
    "Location",
    "instance",
}
"""By which the board groups: ours, Prometheus' and Ray's."""
COLUMNS = 24
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}


def metric_names(expression: str) -> set[str]:
    """Names that an expression reads: words that are neither labels, functions nor operators."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on|without) \([^)]*\)", "", bare)
    words = re.findall(r"[A-Za-z_:][\w:]*(?!\w|\s*\()", bare)
    return set(words) - {"or", "and", "run", "SessionName"}


@pytest.mark.parametrize("expression", [*expressions(), *queries()])
def test_every_name_that_the_board_asks_for_is_exported(expression: str) -> None:
    found = metric_names(expression)
    assert found
    assert found - names.series() - RAYS_OWN - RAYS_OWN_WITH_GPU == set()


def test_the_board_asks_for_everything_on_the_list_of_rays_own() -> None:
    asked = set().union(*(metric_names(e) for e in expressions()))
    assert asked >= RAYS_OWN | RAYS_OWN_WITH_GPU


def test_the_board_groups_by_labels_that_exist() -> None:
    for expression in expressions():
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= LABELS, expression


def test_every_variable_in_use_is_defined() -> None:
    text = [*expressions(), *queries(), *(panel["datasource"]["uid"] for panel in charts())]
    used = {name for part in text for name in re.findall(r"\$\{?(\w+)", part)}
    assert used == set(VARIABLES)
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )


def charts() -> list[dict[str, Any]]:
    return [panel for panel in PANELS if panel["type"] != "row"]


def test_the_board_can_be_imported_by_grafana_10() -> None:
    assert BOARD["title"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", BOARD["uid"])
    assert BOARD["schemaVersion"] >= 38
    assert "id" not in BOARD  # Grafana's own number of a board: importing one overwrites another.
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(number, int) and number > 0 for number in ids)


@pytest.mark.parametrize("panel", charts(), ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["type"] in ("stat", "timeseries")
    assert panel["title"]
    assert panel["description"]
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_no_two_panels_overlap_and_all_are_on_the_board() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        return set(itertools.product(columns, rows))

    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert cells(panel), panel["title"]
        assert not taken & cells(panel), panel["title"]
        taken |= cells(panel)
    assert {column for column, _ in taken} == set(range(COLUMNS))
    assert min(row for _, row in taken) == 0


def test_every_numeric_metric_is_exported_and_no_other() -> None:
    exported = {*names.GAUGES, *names.COUNTERS, *names.HISTOGRAMS, *names.GAME_METRICS}
    numeric = {metric.name for metric in METRICS if metric.type != "str"}
    assert exported | {"actor_restarts"} == numeric


def test_exported_names_follow_prometheus() -> None:
    for name in names.series():
        assert re.fullmatch(r"ray_keisei_[a-z][a-z_]*[a-z]", name)
    counters = {*names.COUNTERS.values(), names.GAMES, names.RESTARTS, names.REJECTED_ROLLOUTS}
    assert all(name.endswith("_total") for name in counters)
    others = {*names.GAUGES.values(), *names.HISTOGRAMS.values(), *names.ELO.values(), names.SCORE}
    assert not any(name.endswith("_total") for name in others)
    assert len(names.series()) == len(counters) + len(others) + 2 * len(names.HISTOGRAMS)
