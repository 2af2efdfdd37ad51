"""Pages of games and positions: complete, offline, and safe with hostile names."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from keisei_ray.analysis.findings import find
from keisei_ray.analysis.page import game_page, positions_page
from keisei_ray.analysis.source import Source
from keisei_ray.analysis.turning_points import turning_points
from tests.helpers.analyses import evaluate, findings_of, game_source
from tests.helpers.browser import CHROMIUM, visit

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
MOVES = "7g7f 3c3d 8h2b+ 3a2b"


def page_of(source: Source) -> str:
    found = findings_of(
        source, [0.5, 0.3, 0.7, 0.9, 0.9], ["2g2f 8c8d", "8c8d", "8h2b+", "8b2b", "2g2f"]
    )
    return game_page(source, found, turning_points(found, source.moves), "net with no search")


def replay_data(page: str) -> list[dict[str, object]]:
    found = re.search(r'id="games-data">(.*?)</script>', page, re.DOTALL)
    assert found
    games: list[dict[str, object]] = json.loads(found[1])
    return games


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "onerror", "onload")]
        if tag == "link":
            self.loads.append(tag)


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


@pytest.mark.parametrize("field", ["black", "white", "end", "fault"])
def test_hostile_text_stays_text(field: str) -> None:
    plain, hostile = (tags(page_of(game_source(MOVES, **{field: t}))) for t in ("x", HOSTILE))
    assert hostile.tags == plain.tags
    assert hostile.loads == []


def test_a_hostile_name_of_file_or_position_stays_text() -> None:
    source = replace(game_source(MOVES), name=HOSTILE)
    assert tags(page_of(source)).tags == tags(page_of(game_source(MOVES))).tags
    found = list(find(source.positions[:1], evaluate, 0))
    page = positions_page([replace(source, moves=())], found, HOSTILE)
    assert tags(page).loads == []
    assert "<img" not in page


def test_the_page_has_every_position_with_what_was_found() -> None:
    page = page_of(game_source(MOVES, black="A", white="B", end="White wins by mate"))
    (game,) = replay_data(page)
    sentences = [note["sentences"] for note in game["notes"]]  # type: ignore[attr-defined]
    assert len(sentences) == 5
    assert sentences[1][0] == "Black's winning chance 30.0%."
    assert sentences[1][1].startswith("White to move. White's value +0.400: win 70.0%")
    assert sentences[1][2] == (
        "Here the game turned: White played P-3d, and its chance went from 70% to 30%."
    )
    first = game["notes"][0]["rows"]  # type: ignore[index]
    assert first == [["P-2f", "２六歩", "50.0%", "7", "50.0%", "P-2f P-8d"]]
    assert "<h1>A - B" in page
    assert "White wins by mate, 4 moves" in page
    assert 'data-ply="1">2</button>' in page
    assert "over moves" in page
    assert "timestep" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_positions_stand_side_by_side() -> None:
    source = game_source(MOVES)
    found = list(find(source.positions[:2], evaluate, 0))
    page = positions_page([replace(source, moves=())] * 2, found, "net")
    games = replay_data(page)
    assert [len(game["sfens"]) for game in games] == [1, 1]  # type: ignore[arg-type]
    assert page.count('data-game="') == 2
    assert 'data-game="' not in positions_page([source], found[:1], "net").split("<script>")[0]


PROBE = """
const find = (selector) => document.querySelector(selector);
const notes = () => find(".notes").innerText;
seen.start = notes();
find("[data-ply]").click();
seen.turn = find(".status").textContent + notes();
const area = find("#chart-chance .u-over");
const box = area.getBoundingClientRect();
for (const kind of ["mousemove", "mousedown", "mouseup", "click"])
  area.dispatchEvent(
    new MouseEvent(kind, {clientX: box.right - 15, clientY: box.top + 9, bubbles: true}));
seen.clicked = find(".status").textContent;
const plot = find("#chart-chance .plot");
seen.here = plot.dataset.here;
find('[aria-label="First position"]').click();
seen.hereAtStart = plot.dataset.here;
plot.dispatchEvent(new KeyboardEvent("keydown", {key: "Home", bubbles: true}));
seen.tip = find(".tip b").innerText;
seen.overflow = document.documentElement.scrollWidth - innerWidth;
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_board_chart_and_turning_points_go_together(tmp_path: Path) -> None:
    page = tmp_path / "game.html"
    page.write_text(page_of(game_source(MOVES, black=HOSTILE)), encoding="utf-8")
    seen = visit(page, PROBE, 500)
    assert seen["errors"] == []
    assert seen["overflow"] <= 0
    assert "Black's winning chance 50.0%." in seen["start"]
    assert "P-2f P-8d" in seen["start"]
    # The costliest move is the second; the board shows the position before it.
    assert seen["turn"].startswith("Move 1 of 4: Black P-7f")
    assert "Here the game turned: White played P-3d" in seen["turn"]
    assert seen["clicked"].startswith("Move 4 of 4: White Sx2b")
    assert (seen["here"], seen["hereAtStart"]) == ("4", "0")
    assert seen["tip"] == "move 0"
