"""The page in a real browser: it runs without an error, and its board and charts obey.

Runs where Chromium is installed. A probe in the page does what a person would and writes what
it saw into the document, which the browser then prints.
"""

import json
from pathlib import Path

import pytest

from keisei_ray.report.command import write_report
from keisei_ray.shogi.record_reader import read_kif
from keisei_ray.shogi.replay import replay
from tests.helpers.browser import CHROMIUM, visit
from tests.helpers.report_runs import evaluation, write_lines, write_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PROBE = """
const find = (selector) => document.querySelector(selector);
const status = () => find(".status").textContent;
const key = (target, name) =>
  target.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
const press = (label) => { find(`[aria-label="${label}"]`).click(); return status(); };
const slider = find("#replay input[type=range]");
const replay = find("#replay");
seen.start = status();
seen.pieces = document.querySelectorAll(".board .shape").length;
seen.on = press("One move on");
seen.marked = document.querySelectorAll(".board .to").length;
seen.back = press("One move back");
seen.isBackOff = find('[aria-label="One move back"]').disabled;
key(replay, "ArrowRight"); key(replay, "ArrowRight"); seen.rightTwice = status();
key(replay, "ArrowLeft"); seen.left = status();
seen.last = press("Last position");
seen.isOnOff = find('[aria-label="One move on"]').disabled;
key(replay, "Home"); seen.home = status();
slider.value = 3; slider.dispatchEvent(new Event("input")); seen.slider = status();
document.querySelectorAll(".moves button")[5].click(); seen.list = status();
seen.current = find(".moves [aria-current]").textContent;
const copied = [];
Object.defineProperty(navigator, "clipboard", {
  value: {writeText: (text) => { copied.push(text); return Promise.resolve(); }},
});
for (const kind of ["SFEN", "USI", "KIF"]) press(`Copy ${kind} to the clipboard`);
seen.copied = copied;
find("[data-game='1']").click(); seen.other = status();
press("Letters instead of kanji"); seen.letters = find(".board .glyph").textContent;
press("Turn the board");
seen.firstIsUpright = !find(".board g[transform]").getAttribute("transform").includes("rotate");
const plot = find("#chart-entropy .plot");
key(plot, "End"); seen.tip = find("#chart-entropy .tip").innerText;
key(plot, "Home"); seen.tipHome = find("#chart-entropy .tip").innerText;
key(plot, "Escape"); seen.isTipHidden = find("#chart-entropy .tip").hidden;
const area = find("#chart-score-0 .u-over");
const box = area.getBoundingClientRect();
area.dispatchEvent(
  new MouseEvent("mousemove", {clientX: box.right - 5, clientY: box.top + 20, bubbles: true}));
seen.alt = find("#chart-entropy canvas[role=img]").getAttribute("aria-label");
seen.entropy = find("#chart-entropy .legend").innerText;
seen.score = find("#chart-score-0 .tip").innerText;
"""


def test_the_page_obeys_buttons_keys_and_pointer(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=20, games=12)
    write_lines(
        run_dir / "evaluations.jsonl",
        [evaluation(10_000, "random", 0.6), evaluation(20_000, "random", 0.75)],
    )
    games = [json.loads(line) for line in (run_dir / "games.jsonl").read_text().splitlines()]
    seen = visit(write_report(run_dir), PROBE, 1200)
    plies = games[0]["plies"]
    assert seen["errors"] == []
    assert seen["pieces"] == 40
    assert seen["start"] == f"Start. Black to move. {plies} moves follow."
    assert seen["on"].startswith(f"Move 1 of {plies}: Black ")
    assert seen["marked"] == 1
    assert seen["back"] == seen["home"] == seen["start"]
    assert seen["isBackOff"]
    assert seen["isOnOff"]
    assert seen["rightTwice"].startswith(f"Move 2 of {plies}: White ")
    assert seen["left"] == seen["on"]
    assert seen["last"].startswith(f"Move {plies} of {plies}:")
    assert seen["last"].endswith(f", {plies} plies.")
    assert seen["slider"].startswith(f"Move 3 of {plies}: Black ")
    assert seen["list"].startswith(f"Move 5 of {plies}: Black ")
    assert seen["current"].startswith("5")
    sfen, usi, kif = seen["copied"]
    assert sfen == replay(games[0]["moves"].split()[:5]).sfens[-1]
    assert usi.endswith(f" moves {games[0]['moves']}")
    assert read_kif(kif).moves == tuple(games[0]["moves"].split())
    assert seen["other"].startswith("Start. ")
    assert seen["letters"] == "L"
    assert seen["firstIsUpright"]
    assert seen["tip"].startswith("timestep 20,000")
    assert seen["tipHome"].startswith("timestep 1,000")
    assert seen["isTipHidden"]
    assert "bare policy 75.0% (67.0% to 83.0%)" in seen["score"]
    assert seen["alt"].startswith("Entropy (nats) over timesteps: entropy from ")
    assert seen["entropy"].split()[0] == "entropy"


@pytest.mark.parametrize("updates", [0, 3])
def test_a_page_without_games_has_no_error_and_fits_a_phone(tmp_path: Path, updates: int) -> None:
    probe = """
    seen.overflow = document.documentElement.scrollWidth - innerWidth;
    const table = document.querySelector(".matches .scroll");
    seen.hidden = table ? table.scrollWidth - table.clientWidth : 0;
    const kind = document.querySelector("#events td:nth-child(2)");
    seen.isKindWhole = kind ? getComputedStyle(kind).whiteSpace === "nowrap" : true;
    """
    run_dir = write_run(tmp_path / "run", updates=updates)
    matches = [
        evaluation(1000, "greedy2?random=0.15", 0.75, finishing=True),
        evaluation(2000, "random", 0.5),
    ]
    write_lines(run_dir / "evaluations.jsonl", matches)
    seen = visit(write_report(run_dir), probe, 500)
    assert seen["errors"] == []
    assert seen["overflow"] <= 0
    assert seen["hidden"] <= 0  # The table of matches need not be scrolled sideways.
    assert seen["isKindWhole"]
