"""The report page: what it says is what the files say, and any run directory has one."""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cshogi
import numpy as np
import pytest

from keisei_ray.cli import main
from keisei_ray.report.command import write_report
from keisei_ray.telemetry.metrics import METRICS
from tests.helpers.report_runs import evaluation, played_games, rating, write_lines, write_run
from tests.helpers.run_events import record

ROOT = Path(__file__).parents[3]
VOID = {"meta", "link", "br", "input"}


class Page(HTMLParser):
    """A page read strictly: every element closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.titles: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.data: list[Any] = []
        self.text = ""
        self._script = ""
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if values.get("aria-label"):
            self.titles.append(str(values["aria-label"]))
        if tag not in VOID:
            self.open.append(tag)
        self._script = tag if values.get("type") == "application/json" else ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script:
            assert "<" not in data
            self.data.append(json.loads(data))
        elif not {"script", "style"} & set(self.open):
            self.text += data + " "

    @property
    def grids(self) -> list[Mapping[str, Any]]:
        """Data of the charts, one grid for each section."""
        return [data for data in self.data if isinstance(data, dict)]

    def chart(self, key: str) -> Mapping[str, Any]:
        return next(c for grid in self.grids for c in grid["charts"] if c["key"] == key)

    def series(self, key: str, name: str) -> Mapping[str, Any]:
        grid = next(g for g in self.grids if key in [c["key"] for c in g["charts"]])
        line = next(line for line in self.chart(key)["series"] if line["name"] == name)
        return {**line, "x": grid["axes"][line["axis"]]["x"]}

    def shares(self, key: str, name: str) -> list[float | None]:
        chart = self.chart(key)
        shares: list[float | None] = chart["shares"][chart["names"].index(name)]
        return shares

    @property
    def games(self) -> list[Mapping[str, Any]]:
        return next((data for data in self.data if isinstance(data, list)), [])


def page_of(run_dir: Path) -> Page:
    return Page(write_report(run_dir).read_text(encoding="utf-8"))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", updates=20, games=12)


def test_the_header_says_what_the_files_say(run_dir: Path) -> None:
    text = page_of(run_dir).text
    assert "20,000 plies in 20 s on 2 CPUs, without a GPU, 200 games finished" in text
    assert "black 100, white 60, drawn 20, cut 20" in text
    assert "No end is on record" in text
    assert "How strong the player is is not known" in text


def test_a_chart_holds_the_metrics_of_the_file(run_dir: Path) -> None:
    page = page_of(run_dir)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for key, name, metric in [
        ("entropy", "entropy", "entropy"),
        ("kl", "approx. KL", "approx_kl"),
        ("clip", "clip fraction", "clip_fraction"),
        ("explained-variance", "explained variance", "explained_variance"),
        ("value-loss", "value loss", "value_loss"),
        ("policy-loss", "policy loss", "policy_loss"),
        ("learning-rate", "learning rate", "learning_rate"),
        ("lag", "greatest", "policy_lag_max"),
        ("sps", "whole run", "sps_total"),
        ("time", "collect", "collect_time_s"),
        ("time", "wait", "wait_time_s"),
    ]:
        series = page.series(key, name)
        assert series["x"] == [line["timestep"] for line in lines]
        np.testing.assert_allclose(series["y"], [line[metric] for line in lines], rtol=1e-5)
    lengths = page.series("length", "mean length")["y"]
    assert [length is None for length in lengths] == [
        line["game_length_mean"] is None for line in lines
    ]


def test_shares_of_results_and_reasons_are_those_of_the_games(run_dir: Path) -> None:
    page = page_of(run_dir)
    assert page.shares("results", "black wins") == [0.5] * 20
    assert page.shares("results", "draws") == [0.1] * 20
    games = [json.loads(line) for line in (run_dir / "games.jsonl").read_text().splitlines()]
    mates = page.shares("reasons", "mate")
    assert mates[:12] == [float(game["reason"] == "mate") for game in games]
    assert mates[12:] == [None] * 8
    capped = sum(game["reason"] == "max_plies" for game in games)
    assert page.chart("reasons")["counts"][-1] == f"{capped} ({capped / 12:.1%})"


def test_shares_are_of_what_each_update_added(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0)
    counts = [(0, 0, 0), (1, 0, 0), (1, 3, 0), (1, 3, 0), (2, 3, 1)]
    write_lines(
        run_dir / "metrics.jsonl",
        [
            record(i, black_wins=black, white_wins=white, draws=draws, truncated=0)
            for i, (black, white, draws) in enumerate(counts, start=1)
        ],
    )
    page = page_of(run_dir)
    assert page.shares("results", "black wins") == [None, 1, 0, None, 0.5]
    assert page.shares("results", "white wins") == [None, 0, 1, None, 0]
    assert page.shares("results", "draws") == [None, 0, 0, None, 0.5]
    assert page.chart("results")["counts"][2] == "1 (16.7%)"


def test_every_chart_tells_what_its_metrics_mean(run_dir: Path) -> None:
    page = page_of(run_dir)
    told = [
        meaning for grid in page.grids for chart in grid["charts"] for meaning in chart["metrics"]
    ]
    assert ["entropy", f"{METRICS[14].meaning} [nats]"] in told
    for metric in METRICS:
        assert metric.meaning in page.text  # In the table of all metrics.


def test_the_page_needs_nothing_else(run_dir: Path) -> None:
    page = page_of(run_dir)
    outside = re.findall(
        r"""(?:https?:)?//[\w.]+|url\((?!#)[^)]*\)|@import|<link|src=""", page.source
    )
    # The name of SVG, and where uPlot is from in a comment: nothing that is loaded.
    assert set(outside) <= {"http://www.w3.org", "https://github.com"}
    assert not page.tags & {"link", "img", "iframe", "object", "embed", "base"}
    assert "default-src 'none'" in page.source


def test_style_and_scripts_are_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    package = ROOT / "keisei_ray"
    patterns = project["tool"]["setuptools"]["package-data"]["keisei_ray"]
    packaged = {file for pattern in patterns for file in package.glob(pattern)}
    data = {file for file in package.rglob("*.*") if file.suffix in (".css", ".js", ".html")}
    assert data
    assert data <= packaged


def test_pictures_have_descriptions_for_screen_readers(run_dir: Path) -> None:
    alt = page_of(run_dir).chart("learning-rate")["alt"]
    assert alt.startswith("Learning rate over timesteps: learning rate from 0.000297 to 0.000297")


def test_chosen_games_are_replayed_as_another_library_does(run_dir: Path) -> None:
    saved = [json.loads(line) for line in (run_dir / "games.jsonl").read_text().splitlines()]
    shown = page_of(run_dir).games
    assert [" ".join(game["moves"]) for game in shown][-4:] == [
        game["moves"] for game in reversed(saved[-4:])
    ]
    for game in shown:
        board = cshogi.Board()
        assert game["sfens"][0] == board.sfen()
        for usi, sfen in zip(game["moves"], game["sfens"][1:], strict=True):
            board.push_usi(usi)
            assert sfen == board.sfen()


def test_the_chosen_games_are_the_first_the_shortest_mate_and_the_longest(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=3)
    base = played_games(1)[0]
    mate = {"result": "black_win", "reason": "mate"}
    games = [
        base | {"moves": "7g7f 3c3d", "plies": 2, "result": "draw", "reason": "repetition"},
        base | {"moves": "", "plies": 1} | mate,
        base | {"moves": "2g2f 8c8d 2f2e", "plies": 3} | mate,
        base | {"moves": "2g2f 8c8d 2f2e 8d8e 2e2d", "plies": 5} | mate,
        *[base | {"moves": "5g5f", "plies": 1, "result": "truncated"} for _ in range(4)],
    ]
    write_lines(run_dir / "games.jsonl", games)
    page = page_of(run_dir)
    assert [len(game["moves"]) for game in page.games] == [2, 3, 5, 1, 1, 1, 1]
    assert page.games[0]["title"] == "Drawn by fourfold repetition, 2 plies"
    assert page.games[1]["title"] == "Black wins by mate, 3 plies"
    assert all(f"{which} newest" in page.text for which in ("2nd", "3rd", "4th"))
    assert "recent" not in page.text
    assert "\u624b\u5408\u5272" in page.games[0]["kif"]


@pytest.mark.parametrize(
    "change",
    [{"moves": "7g7c"}, {"moves": 7}, {"start_sfen": "rubbish"}, {"moves": ""}, {"plies": None}],
)
def test_a_game_that_cannot_be_replayed_is_left_out(
    tmp_path: Path, change: dict[str, object]
) -> None:
    run_dir = write_run(tmp_path / "run", updates=2)
    write_lines(run_dir / "games.jsonl", [played_games(1)[0] | change])
    page = page_of(run_dir)
    assert page.games == []
    assert "No moves to show" in page.text


def test_matches_and_ratings_are_shown_with_their_intervals(run_dir: Path) -> None:
    matches = [
        evaluation(5000, "random", 0.6),
        evaluation(20000, "random", 0.75, losses=22, truncated=3),
        evaluation(20000, "greedy", 0.1, finishing=True),
        evaluation(10000, "v5", 0.4),
        evaluation(20000, "v10", 0.7),
    ]
    write_lines(run_dir / "evaluations.jsonl", matches)
    players = [rating("random", 0.0, None), rating("v5", 70.0, 5000), rating("v20", 190.0, 20000)]
    players[-1] |= {"high": None}
    table = {"anchor": "random", "confidence": 0.95, "timestep": 20000, "players": players}
    (run_dir / "ratings.json").write_text(json.dumps(table))
    page = page_of(run_dir)
    score = page.series("score-0", "bare policy")
    assert (score["x"], score["y"]) == ([5000, 20000], [0.6, 0.75])
    assert (score["low"], score["high"]) == ([0.52, 0.67], [0.68, 0.83])
    assert page.series("score-1", "bare policy")["y"] == [0.4, 0.7]  # All earlier weights.
    assert page.series("score-2", "with mate-in-one finishing")["y"] == [0.1]
    elo = page.series("elo", "bare policy")
    assert (elo["x"], elo["y"]) == ([5000, 20000], [70, 190])
    assert (elo["low"], elo["high"]) == ([10, 130], [130, None])
    assert elo["hasIntervals"]
    text = page.text
    assert (
        "Against random it scored 75.0% of the points (95% interval 67.0% to 83.0%, 100 games "
        "after 20,000 plies)." in text
    )
    assert "v20 stands at +190 (95% interval +130 to no upper bound)" in text


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    text = page_of(write_run(tmp_path / "run", updates=0, events=False)).text
    assert "Nothing is learnt yet" in text
    assert "No game has ended yet" in text


def test_only_the_settings_must_be_there(run_dir: Path) -> None:
    for file in run_dir.iterdir():
        if file.name != "config.json":
            file.unlink()
    assert "Nothing is learnt yet" in page_of(run_dir).text


def test_a_line_that_is_being_written_is_left_out(run_dir: Path) -> None:
    whole = page_of(run_dir).text
    for name in ("metrics.jsonl", "games.jsonl", "events.jsonl", "evaluations.jsonl"):
        with (run_dir / name).open("a") as file:
            file.write('{"timestep": 21000, "kind": "no')
    assert page_of(run_dir).text == whole


def test_damaged_lines_are_left_out_and_counted(run_dir: Path) -> None:
    file = run_dir / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[3:3] = [b"\xff\xfe\n", b"[1]\n", b"{}\n", lines[1]]
    file.write_bytes(b"".join(lines))
    good = evaluation(1, "random", 0.5)
    bad: list[Mapping[str, object]] = [
        {"timestep": 1},
        good | {"wins": None},
        good | {"score": None},
        good | {"games": "x"},
    ]
    write_lines(run_dir / "evaluations.jsonl", [*bad, good])
    (run_dir / "ratings.json").write_text('{"players": [')
    page = page_of(run_dir)
    assert len(page.series("entropy", "entropy")["x"]) == 20
    assert "metrics.jsonl: 4; evaluations.jsonl: 4; ratings.json: 1" in page.text


def test_values_that_are_no_numbers_are_gaps(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0)
    odd = [2.0, None, math.nan, math.inf, "3", True, [1], 4.0]
    write_lines(
        run_dir / "metrics.jsonl",
        [record(i + 1) | {"entropy": value} for i, value in enumerate(odd)],
    )
    page = page_of(run_dir)
    assert page.series("entropy", "entropy")["y"] == [2, *[None] * 6, 4]
    assert "NaN" not in page.source.split("<script>")[0]


@pytest.mark.parametrize("timestep", [2**63 - 1, 2**64, 1e38])
def test_a_timestep_that_no_run_reaches_has_an_axis(tmp_path: Path, timestep: float) -> None:
    run_dir = write_run(tmp_path / "run", updates=2)
    write_lines(run_dir / "metrics.jsonl", [record(1), record(2) | {"timestep": timestep}])
    assert write_report(run_dir, None).exists()


def test_a_resumed_run_goes_on_where_it_was(run_dir: Path) -> None:
    first = {"kind": "run_started", "cluster": {}, "timestep": 0, "resumed_from": None}
    second = first | {"timestep": 8000, "resumed_from": "c"}
    write_lines(
        run_dir / "events.jsonl",
        [
            {"time": "2026-01-01T00:00:00.000+00:00"} | first,
            {"time": "2026-01-02T00:00:00.000+00:00"} | second,
            {"time": "2026-01-02T01:00:00.000+00:00", "kind": "actor_lost", "actor_id": 3,
             "incarnation": 0, "cause": "Traceback (most recent call last):\nValueError: boom",
             "restarts_left": 2},
            {"time": "2026-01-02T01:00:01.000+00:00", "kind": "run_ended", "reason": "failed",
             "timestep": 20000, "checkpoint": None, "wall_time_s": 20.0, "cause": "OSError: x"},
        ],
    )  # fmt: skip
    page = page_of(run_dir)
    assert "It ended with a failure: OSError: x. It was resumed once." in page.text
    assert "resumed at timestep 8,000 from c" in page.text
    assert "self-play actor 3: ValueError: boom (2 restarts left)" in page.text
    assert all(grid["marks"] == [8000] for grid in page.grids)


def test_the_header_shows_the_newest_warnings_of_the_newest_session(run_dir: Path) -> None:
    def notice(text: str, level: str) -> dict[str, object]:
        return {"time": "2026-01-02T01:00:00.000Z", "kind": "notice", "message": text,
                "level": level}  # fmt: skip

    started = {"kind": "run_started", "cluster": {}, "timestep": 0, "resumed_from": None}
    session = [started, notice("all is well", "INFO")]
    write_lines(run_dir / "events.jsonl", [*session, notice("old", "WARNING"), *session])
    assert "warnings" not in page_of(run_dir).source.split("</style>")[1]
    warned = [notice(f"<{n}> diverges", "WARNING") for n in range(4)]
    write_lines(run_dir / "events.jsonl", [*session, notice("old", "WARNING"), *session, *warned])
    header = page_of(run_dir).source.split("<header>")[1].split("</header>")[0]
    assert "4 warnings, the newest are:" in header
    assert re.findall(r"<li>(.*?)</li>", header) == [
        f"2026-01-02 01:00:00: &lt;{n}&gt; diverges" for n in (1, 2, 3)
    ]


def test_a_huge_run_stays_small_and_keeps_its_extremes(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0, games=8)
    row = json.dumps(record(1) | {"timestep": "T", "entropy": "E"})
    num_updates = 30_000
    rng = np.random.default_rng(3)
    entropy = rng.normal(size=num_updates).round(4)
    entropy[17_777] = 9.5
    with (run_dir / "metrics.jsonl").open("w") as file:
        for i, value in enumerate(entropy, start=1):
            file.write(row.replace('"T"', str(1000 * i)).replace('"E"', str(value)) + "\n")
    page = page_of(run_dir)
    assert len(page.source) < 5_000_000
    series = page.series("entropy", "entropy")
    assert len(series["x"]) <= 300
    assert (max(series["high"]), min(series["low"])) == (9.5, entropy.min())
    assert series["x"][-1] == 30_000_000


def test_texts_from_files_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("&1")'
    run_dir = write_run(tmp_path / evil, updates=3)
    write_lines(run_dir / "evaluations.jsonl", [evaluation(3000, evil, 0.5, player=evil)])
    notice = {"time": evil, "kind": "notice", "message": f"</script>{evil}", "level": "INFO"}
    other = {"time": "", "kind": evil, evil: evil}
    write_lines(run_dir / "events.jsonl", [notice, other])
    game = played_games(1)[0]
    write_lines(run_dir / "games.jsonl", [game | {"result": evil, "reason": f"</script>{evil}"}])
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {evil: evil}))
    page = page_of(run_dir)
    assert evil not in page.source
    assert page.source.count("<script>") == 2  # uPlot, and the page's own.
    assert page.text.count(evil) >= 6
    assert page.games[0]["title"].startswith(evil)


def test_the_command_writes_the_page_and_names_it(
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["report", str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'report.html'}\n"
    out = run_dir.parent / "page.html"
    assert main(["report", str(run_dir), "--out", str(out)]) == 0
    assert main(["report", str(run_dir), "--out", str(out)]) == 0  # A page may be replaced.
    # Without a name it is the run that was started last.
    write_run(tmp_path / "runs" / "first", updates=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert main(["report"]) == 0
    assert capsys.readouterr().out == f"{Path('runs', 'first', 'report.html')}\n"
    assert out.read_text() == (run_dir / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere has no config.json, expected the directory of a run"),
        (["run/config.json"], "run/config.json has no config.json"),
        (["run", "--out", "missing/page.html"], "--out missing/page.html: not a file in a direc"),
        (["run", "--out", "run"], "--out run: not a file in a directory"),
        (["run", "--out", "run/metrics.jsonl"], "run/metrics.jsonl: exists and is not a page"),
        (["run", "--out", "/dev/null"], "--out /dev/null: exists and is not a page"),
        ([], "there is no run under runs/, expected at least one"),
    ],
)
def test_bad_input_is_one_line(
    run_dir: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (run_dir / "metrics.jsonl").read_bytes()
    monkeypatch.chdir(run_dir.parent)
    assert main(["report", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert (run_dir / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not JSON"), (b"\xff", "is not JSON"), (b"[]", "holds a list")],
)
def test_damaged_settings_are_named(
    run_dir: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "config.json").write_bytes(content)
    assert main(["report", str(run_dir)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_a_file_that_cannot_be_read_is_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "metrics.jsonl").unlink()
    (run_dir / "metrics.jsonl").mkdir()
    assert main(["report", str(run_dir)]) == 2
    assert "metrics.jsonl cannot be read: Is a directory" in capsys.readouterr().err
