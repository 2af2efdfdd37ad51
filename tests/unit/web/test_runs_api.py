"""Answers about runs: from their files, also damaged or hostile ones, and as they grow."""

import asyncio
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.web.answers import json_text
from tests.helpers.report_runs import write_lines, write_run
from tests.helpers.run_events import record
from tests.helpers.status_runs import append
from tests.helpers.web_clients import Client, with_client

EVIL = "</script><script>alert('&\"1')</script>"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "first", updates=20, games=3)


async def events_of(client: Client, path: str) -> Any:
    """Yields what the server sends to a page that is open."""
    async with client.get(path) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


async def first_event(client: Client, path: str) -> Any:
    events = events_of(client, path)
    event = await anext(events)
    await events.aclose()
    return event


def test_the_list_and_the_state_are_those_of_the_files(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        listed = await (await client.get("/api/runs")).json()
        assert [(run["run"], run["path"]) for run in listed["runs"]] == [("first", str(run_dir))]
        change = await first_event(client, "/api/live")
        (state,) = change["runs"]
        assert (state["run"], state["status"]["timestep"]) == ("first", 20_000)
        assert state["status"]["games_total"] == 200

    with_client([run_dir.parent], talk)


def test_the_run_that_was_changed_last_is_listed_first(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        listed = await (await client.get("/api/runs")).json()
        assert [run["run"] for run in listed["runs"]] == ["b", "c", "a"]

    for name, changed_s in (("a", 1), ("b", 3), ("c", 2)):
        os.utime(write_run(tmp_path / name, updates=1), (changed_s, changed_s))
    with_client([tmp_path], talk)


def test_runs_are_read_before_a_page_asks(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        async with asyncio.timeout(60):
            while True:
                (run,) = (await (await client.get("/api/runs")).json())["runs"]
                if run["status"]:
                    return

    with_client([run_dir], talk)


def test_curves_come_with_wall_times_and_only_again_when_they_have_changed(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        answer = await client.get("/api/runs/first/charts")
        groups = {group["title"]: group for group in (await answer.json())["groups"]}
        assert list(groups) == ["Strength", "Results", "Learning", "Speed"]
        entropy = groups["Learning"]["charts"][0]
        axis = groups["Learning"]["axes"][entropy["series"][0]["axis"]]
        assert axis["x"][-1] == 20_000
        assert axis["wall"][-1] == 20.0
        tag = answer.headers["ETag"]
        same = await client.get("/api/runs/first/charts", headers={"If-None-Match": tag})
        assert same.status == 304

    with_client([run_dir], talk)


def test_a_long_run_is_thinned_out(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "long", updates=2000)

    async def talk(client: Client) -> None:
        answer = await client.get("/api/runs/long/charts")
        text = await answer.text()
        assert len(text) < 200_000
        axes = json.loads(text)["groups"][2]["axes"]
        assert all(len(axis["x"]) <= 300 for axis in axes)

    with_client([run_dir], talk)


def test_settings_of_runs_stand_side_by_side_and_differences_are_marked(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, updates=1) for name in ("a", "b")]
    config = json.loads((runs[1] / "config.json").read_text())
    config["learner"]["gamma"] = 0.5
    config[EVIL] = EVIL
    (runs[1] / "config.json").write_text(json.dumps(config))

    async def talk(client: Client) -> None:
        found = await (await client.get("/api/settings?run=a&run=b")).json()
        assert found["runs"] == ["a", "b"]
        differing = {row["setting"]: row["values"] for row in found["settings"] if row["differs"]}
        assert differing == {"learner.gamma": ["0.997", "0.5"], EVIL: [None, EVIL]}

    with_client(runs, talk)


def test_hostile_records_are_text_and_numbers_that_are_not_finite_are_null(run_dir: Path) -> None:
    write_lines(
        run_dir / "events.jsonl",
        [
            {"time": EVIL, "kind": EVIL, "message": EVIL},
            {"time": "", "kind": "notice", "message": "\x1b[31m\ud800", "level": "WARNING"},
        ],
    )
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record(21) | {"sps": float("inf"), "entropy": float("nan")}) + "\n")
        file.write('{"timestep": 22000, "update": 1e99999}\n[[[[\n{"timestep": 23')

    async def talk(client: Client) -> None:
        for path in ("/api/runs/first/charts", "/api/runs/first/events", "/api/runs"):
            answer = await client.get(path)
            assert answer.content_type == "application/json"
            data = json.loads(await answer.text(), parse_constant=pytest.fail)
        change = await first_event(client, "/api/live")
        assert change["runs"][0]["status"]["timestep"] == 21_000
        events = await (await client.get("/api/runs/first/events")).json()
        assert events["damaged"] == {"metrics.jsonl": 1}
        assert [e["kind"] for e in events["events"]] == [EVIL, "notice"]
        del data

    with_client([run_dir], talk)


def test_numbers_that_no_json_has_become_null() -> None:
    data = {"a": [1.5, math.nan, {"b": (math.inf, "x")}]}
    assert json.loads(json_text(data), parse_constant=pytest.fail) == {
        "a": [1.5, None, {"b": [None, "x"]}]
    }


def test_a_run_that_has_just_begun_is_found(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keisei_ray.web.feeds.LOOK_S", 0.0)

    async def talk(client: Client) -> None:
        write_run(run_dir.parent / "second", updates=3)
        for path in ("/api/runs/second/charts", "/api/runs/second/events", "/api/live?run=second"):
            async with client.get(path) as answer:
                assert answer.status == 200, path

    with_client([run_dir.parent], talk)


def test_only_the_ends_of_very_many_events_are_kept(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keisei_ray.report.run_files.MAX_EVENTS", 100)
    notices = [{"time": "", "kind": "notice", "message": f"n{i}"} for i in range(1000)]
    write_lines(run_dir / "events.jsonl", notices)

    async def talk(client: Client) -> None:
        events = (await (await client.get("/api/runs/first/events")).json())["events"]
        texts = [event["text"] for event in events]
        assert (texts[0], texts[50], texts[-1]) == ("n0", "900 rows left out", "n999")

    with_client([run_dir], talk)


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/second/charts",
        "/api/runs/..%2f..%2fetc/charts",
        "/api/runs/%2e%2e/events",
        "/api/live?run=second",
        "/api/settings?run=../first",
        "/api/settings?run=%00",
    ],
)
def test_a_run_that_is_not_shown_is_not_found(run_dir: Path, path: str) -> None:
    async def talk(client: Client) -> None:
        answer = await client.get(path)
        assert answer.status == 404
        assert "error" in await answer.json()

    with_client([run_dir], talk)


def test_a_run_that_is_gone_takes_nothing_from_those_beside_it(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        change = await first_event(client, "/api/live?run=first&run=gone")
        first, gone = change["runs"]
        assert (first["run"], first["status"]["timestep"]) == ("first", 20_000)
        assert (gone["run"], gone["isGone"]) == ("gone", True)
        assert "there is no run 'gone'" in gone["error"]
        found = await (await client.get("/api/settings?run=gone&run=first")).json()
        assert found["runs"] == ["first"]
        for path in ("live", "settings"):
            assert (await client.get(f"/api/{path}?run=gone&run=lost")).status == 404

    with_client([run_dir], talk)


def test_a_page_is_told_what_is_added_what_is_new_and_what_is_gone(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keisei_ray.web.feeds.LOOK_S", 0.0)
    monkeypatch.setattr("keisei_ray.web.runs_api.LIVE_S", 0.01)

    async def talk(client: Client) -> None:
        events = events_of(client, "/api/live")

        async def until(is_right: Any) -> None:
            async with asyncio.timeout(60):
                async for change in events:
                    if any(map(is_right, change["runs"])):
                        return

        await until(lambda run: run["status"])
        append(run_dir / "metrics.jsonl", record(21))
        await until(lambda run: run["status"]["timestep"] == 21_000)
        write_run(run_dir.parent / "second", updates=3)
        await until(lambda run: run["run"] == "second" and run["status"])
        shutil.rmtree(run_dir)
        await until(lambda run: run["run"] == "first" and run.get("isGone"))
        answer = await client.get("/api/runs/first/charts")
        assert answer.status == 404
        await events.aclose()

    with_client([run_dir.parent], talk)
