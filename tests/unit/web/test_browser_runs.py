"""The page of the runs in a real browser, at both widths, while its runs go on."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.browser import CHROMIUM
from tests.helpers.devtools import Page, browser_page
from tests.helpers.report_runs import evaluation, write_lines, write_run
from tests.helpers.run_events import record
from tests.helpers.status_runs import append
from tests.helpers.web_clients import Client, with_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("keisei_ray.web.feeds.LOOK_S", 0.0)
    monkeypatch.setattr("keisei_ray.web.feeds.CHARTS_S", 0.0)
    monkeypatch.setattr("keisei_ray.web.feeds.MOST_LOAD", 1.0)
    for name in ("first", "second"):
        run_dir = write_run(tmp_path / "runs" / name, updates=20, games=3)
        write_lines(
            run_dir / "evaluations.jsonl",
            [evaluation(10_000, "random", 0.6), evaluation(20_000, EVIL, 0.75)],
        )
        append(run_dir / "events.jsonl", {"time": "", "kind": EVIL, "message": EVIL})
    newest_s = run_dir.stat().st_mtime + 60
    os.utime(tmp_path / "runs" / "first", (newest_s, newest_s))  # The list is by name all the same.
    config = json.loads((run_dir / "config.json").read_text())
    config["learner"]["gamma"] = 0.5
    (run_dir / "config.json").write_text(json.dumps(config))
    return tmp_path / "runs"


def test_runs_are_found_watched_compared_and_missed(runs_dir: Path, tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        base = str(client.make_url("/"))
        async with browser_page(tmp_path / "browser") as page:
            await page.open(base, 390)
            await page.wait_for("document.querySelectorAll('.runs .state').length === 2")
            await fits(page)
            await click_while_it_changes(page, runs_dir / "first")
            await watch_one(page, runs_dir / "first")
            await fits(page)

            await page.open(f"{base}#/runs", 1440)
            await page.wait_for("document.querySelectorAll('.runs .state').length === 2")
            for name in ("first", "second"):
                await page.click(f"[aria-label='Compare {name}']")
            await page.click(".bar a.button")
            await compare_two(page)
            await fits(page)

            await page.wait_for("document.querySelectorAll('details .scroll').length === 2")
            assert page.errors == []
            shutil.rmtree(runs_dir / "second")
            await page.wait_for("document.body.innerText.includes('there is no run')")
            await see_one_beside_a_deleted_one(page, base, runs_dir / "first")
            assert all(url.startswith((base, "data:", "about:")) for url in page.requests)

    with_client([runs_dir], talk)


def test_a_page_that_is_not_seen_has_no_stream_and_notices_what_is_gone_when_it_is_seen_again(
    runs_dir: Path, tmp_path: Path
) -> None:
    async def talk(client: Client) -> None:
        base = str(client.make_url("/"))
        async with browser_page(tmp_path / "browser") as page:
            await page.open(base, 800)
            await page.wait_for("document.querySelectorAll('.runs .state').length === 2")
            await page.look(
                "window.closes = 0; const close = EventSource.prototype.close;"
                "EventSource.prototype.close = function () { closes += 1; close.call(this); };"
            )
            await turn_away(page, True)
            assert await page.look("closes") == 1
            shutil.rmtree(runs_dir / "second")
            assert streams(page) == 1
            await turn_away(page, False)
            await page.wait_for("document.querySelectorAll('.runs .state').length === 1")
            append(runs_dir / "first" / "evaluations.jsonl", evaluation(20_000, "greedy", 0.53125))
            await page.wait_for("document.querySelector('.runs').innerText.includes('53.1%')")
            assert streams(page) == 2

            await page.open(f"{base}#/runs/first", 800)
            await page.wait_for("document.querySelector('.run-head .facts')")
            await turn_away(page, True)
            shutil.rmtree(runs_dir / "first")
            await turn_away(page, False)
            await page.wait_for("document.body.innerText.includes('there is no run')")

    with_client([runs_dir], talk)


async def turn_away(page: Page, is_hidden: bool) -> None:
    """Lets the page believe that another tab is in front of it, or that it is seen again."""
    await page.look(
        "Object.defineProperty(document, 'hidden', "
        f"{{configurable: true, get: () => {str(is_hidden).lower()}}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def streams(page: Page) -> int:
    """How many streams the page has opened."""
    return sum("/api/live" in url for url in page.requests)


async def see_one_beside_a_deleted_one(page: Page, base: str, run_dir: Path) -> None:
    await page.open("about:blank", 1440)
    await page.open(f"{base}#/runs/{run_dir.name}/second", 1440)
    await page.wait_for("document.querySelectorAll('.run-head .facts').length === 1")
    await page.wait_for("document.body.innerText.includes('Settings')")
    append(run_dir / "metrics.jsonl", record(22))
    await page.wait_for("document.querySelector('.facts').innerText.includes('22,000')")


async def click_while_it_changes(page: Page, run_dir: Path) -> None:
    """The row of the run changes between the press of the button and its release."""
    link = "a.name[href='#/runs/first']"
    await page.mouse("mousePressed", *await page.place(link))
    append(run_dir / "evaluations.jsonl", evaluation(20_000, "greedy", 0.53125))
    await page.wait_for("document.querySelector('.runs').innerText.includes('53.1%')")
    await page.mouse("mouseReleased", *await page.place(link))


async def watch_one(page: Page, run_dir: Path) -> None:
    legend = "document.querySelector('#chart-sps .legend')?.innerText ?? ''"
    await page.wait_for(f"({legend}).includes('1,000 now')")
    assert await page.look("document.querySelectorAll('figure.chart canvas[role=img]').length") > 12
    await page.wait_for("document.querySelector('.facts')?.innerText.includes('20,000')")
    text = await page.look("document.querySelector('main').innerText")
    assert EVIL in text
    await page.look("document.querySelector('#chart-sps .plot').focus()")
    await page.key("ArrowLeft")
    tip = await page.look("document.querySelector('#chart-sps .tip').innerText")
    assert tip.startswith("timestep 20,000")
    append(run_dir / "metrics.jsonl", record(21, sps=4321.0))
    append(run_dir / "events.jsonl", {"time": "", "kind": "notice", "message": "just now"})
    await page.wait_for(f"({legend}).includes('4,321 now')")
    await page.wait_for("document.querySelector('.events').innerText.includes('just now')")


async def compare_two(page: Page) -> None:
    await page.wait_for("document.querySelectorAll('.run-head .facts').length === 2")
    legend = "document.querySelector('#chart-entropy .legend').innerText"
    await page.wait_for("document.querySelector('#chart-entropy .legend')")
    assert "first" in await page.look(legend)
    assert "second" in await page.look(legend)
    await page.click(".bar button:nth-child(2)")
    await page.look("document.querySelector('#chart-entropy .plot').focus()")
    await page.key("ArrowLeft")
    tip = await page.look("document.querySelector('#chart-entropy .tip').innerText")
    assert tip.startswith("21 s")
    await page.wait_for("document.querySelectorAll('tr.differs').length")
    differing = await page.look(
        "[...document.querySelectorAll('tr.differs')].filter((r) => r.offsetParent).map("
        "(r) => r.innerText.replaceAll('\\t', ' ')).join()"
    )
    assert differing == "learner.gamma 0.997 0.5"


async def fits(page: Page) -> None:
    assert await page.look("document.documentElement.scrollWidth - innerWidth") <= 0
