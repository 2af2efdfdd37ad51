"""Whole games in a real browser, by clicks, drags and keys, on a phone and on a wide screen.

Runs where Chromium is installed. The network plays by a script in the server's process.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from keisei_ray.web import play_api
from keisei_ray.web.command import access_for
from keisei_ray.web.server import application
from keisei_ray.web.shown_runs import ShownRuns
from keisei_ray.web.thinker import THINKER
from tests.helpers.browser import CHROMIUM
from tests.helpers.devtools import Page, browser_page
from tests.helpers.report_runs import write_lines, write_run
from tests.helpers.saved_runs import save_untrained
from tests.helpers.web_opponents import ScriptedThinker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

HOSTILE = "<img src=x onerror=hacked=1>"
OPPONENT = "document.querySelector('#opponent')?.textContent"
CARRIED = "document.querySelector('.carried')"
STATUS = "document.querySelector('#status').textContent"


def square(place: str) -> str:
    return f"[data-place='{place}']"


async def says(page: Page, text: str) -> None:
    """Waits until the line under the board has a text."""
    await page.wait_for(f"document.querySelector('#status')?.textContent.includes({text!r})")


async def begin(page: Page, url: str, width: int, *, has_second: bool = False) -> None:
    """Begins a game on the page, against one opponent or two in turn."""
    await page.open("about:blank", width)
    await page.open(f"{url}#/play/first", width)
    if has_second:
        await page.click("#another")
    await page.click("button.main")
    await says(page, "Start. Black to move. Your move.")


async def is_in_view(page: Page) -> bool:
    return bool(await page.look("document.documentElement.scrollWidth <= innerWidth"))


async def play_to_mate(page: Page, url: str, width: int) -> None:
    """Plays a game to mate with the mouse, with what can go wrong in it."""
    await begin(page, url, width, has_second=True)
    assert await is_in_view(page)
    await page.click(square("5e"))
    await says(page, "No legal move begins there.")
    await page.click(square("7g"))
    assert await page.look("document.querySelectorAll('.target').length") == 1
    await page.click(square("7e"))
    await says(page, "7g to 7e is not a legal move.")
    await page.click(square("7f"))
    await says(page, "Move 2: White P-3d")
    await page.click("#take-back")
    await says(page, "Start. Black to move. Your move.")
    await page.place(square("7g"))
    at = await page.look("scrollY")
    await (page.swipe if width < 600 else page.drag)(square("7g"), square("7f"))
    await says(page, "Move 2: White P-3d")
    assert await page.look("scrollY") == at
    assert not await page.look(CARRIED)
    await page.click("#hint")
    await page.wait_for("document.querySelector('.lines-table')")
    await page.click(square("8h"))
    await page.click(square("2b"))
    await page.wait_for("document.querySelector('#promotion button')")
    await page.key("Escape")
    await page.wait_for("!document.querySelector('#promotion')")
    await page.click(square("2b"))
    await page.click("#promotion [aria-label='Promote']")
    await says(page, "Move 4: White G")
    await page.look("document.querySelector(\"[data-place='black:B']\").focus()")
    await page.key("Enter")
    await page.wait_for("document.activeElement.matches('.held.selected')")
    await page.click(square("4b"))
    await says(page, "Move 6: White K")
    await page.click(square("2b"))
    await page.click(square("3a"))
    await says(page, "You win. Black wins by mate.")
    await page.wait_for("document.querySelector('#ending')?.textContent.includes('human_games/')")
    assert await is_in_view(page)
    await page.click("#go-on")
    await page.wait_for(f"{OPPONENT}?.startsWith('Opponent 2 of 2: ')")
    await says(page, "Start. Black to move. Your move.")


async def repeat_with_keys(page: Page, url: str) -> None:
    """Repeats the position by the keyboard alone, once the board has the focus."""
    await begin(page, url, 390)
    await page.look("document.querySelector(\"[data-place='2h']\").focus()")
    await page.key("Enter")
    await page.wait_for("document.querySelector('.cell.selected')")
    await page.key("Escape")
    await page.wait_for("!document.querySelector('.cell.selected')")
    for turn in range(6):
        await page.key("Enter")
        await page.key("ArrowLeft" if turn % 2 == 0 else "ArrowRight")
        await page.key("Enter")
        await page.wait_for(f"{STATUS}.includes('Move {2 * turn + 2}:')")
        label = await page.look("document.activeElement.getAttribute('aria-label')")
        assert "Black rook" in label
        if turn == 3:
            await says(page, "has occurred 3 times")
    await says(page, "Nobody wins. Drawn by fourfold repetition.")


async def see_hostile_games(page: Page, url: str) -> None:
    """Looks at games whose record was written by someone who means harm."""
    await page.open("about:blank", 390)
    await page.open(f"{url}#/games/first", 390)
    await page.wait_for("document.querySelectorAll('#newest .squares').length > 0")
    await page.wait_for(f"document.querySelector('#games').textContent.includes({HOSTILE!r})")
    await page.look("[...document.querySelectorAll('#games a')].at(-1).click()")
    await page.wait_for(f"document.querySelector('#content').textContent.includes({HOSTILE!r})")
    await says(page, "Start.")
    assert await page.look("document.querySelectorAll('main img, main script').length") == 0
    assert await page.look("typeof window.hacked") == "undefined"
    assert await is_in_view(page)


@asynccontextmanager
async def served(run_dir: Path, profile: Path) -> AsyncIterator[tuple[web.Application, Page, str]]:
    """Yields a server of the run, a browser on its page with English pieces, and the address."""
    app = application(ShownRuns([str(run_dir)]), access_for("127.0.0.1"))
    async with TestServer(app) as server, browser_page(profile) as page:
        url = str(server.make_url("/"))
        await page.open(url, 800)
        await page.wait_for("document.querySelector('h1')")
        await page.look("localStorage.setItem('keisei-ray-pieces', 'english')")
        yield app, page, url


def test_a_game_whose_network_does_not_move_can_be_copied_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_api, "Thinker", ScriptedThinker)
    run_dir = write_run(tmp_path / "runs" / "first", updates=1)
    save_untrained(run_dir, timestep=100)
    panel = "document.querySelector('#unfinished')"

    async def move_in_vain(page: Page) -> None:
        await page.click(square("7g"))
        await page.click(square("7f"))
        await says(page, "Move 1: Black P-7f. step-000000000100 is missing.")
        await page.wait_for(panel)

    async def visit() -> None:
        async with served(run_dir, tmp_path / "profile") as (app, page, url):
            await begin(page, url, 800)
            thinker = app[THINKER]
            assert isinstance(thinker, ScriptedThinker)
            thinker.broken = "step-000000000100 is missing."
            await move_in_vain(page)
            buttons = f"[...{panel}.querySelectorAll('button')].map((b) => b.textContent).join()"
            assert await page.look(buttons) == "Copy KIF,Copy USI,Copy SFEN"
            await page.click("#take-back")
            await says(page, "Start. Black to move. Your move.")
            assert not await page.look(panel)
            await move_in_vain(page)
            await page.look("window.confirm = (text) => { window.asked = text; return true; }")
            await page.click("#resign")
            await says(page, "You lose. White wins by resignation.")
            assert "Take your last move back" in await page.look("asked")
            ending = "document.querySelector('#ending')"
            await page.wait_for(f"{ending}?.textContent.includes('Copy CSA')")

    asyncio.run(visit())
    (line,) = (run_dir / "human_games.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["reason"], record["moves"], record["take_backs"]) == ("resign", "", 2)


def test_a_page_that_is_loaded_while_the_network_thinks_waits_for_the_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_api, "Thinker", ScriptedThinker)
    run_dir = write_run(tmp_path / "runs" / "first", updates=1)
    save_untrained(run_dir, timestep=100)

    async def visit() -> None:
        async with served(run_dir, tmp_path / "profile") as (app, page, url):
            await begin(page, url, 800)
            key = await page.look("location.hash.split('/')[3].split('?')[0]")
            session = app[play_api.SESSIONS].get(key)
            session.game.play("7g7f", 0)
            session.is_busy = True  # As while a request of the page before is under way.
            await page.call("Page.reload")
            await says(page, "The network is thinking.")
            while sum(url.endswith("/reply") for url in page.requests) < 2:
                await asyncio.sleep(0.05)
            session.is_busy = False
            await says(page, "Move 2: White P-3d. Your move.")

    asyncio.run(asyncio.wait_for(visit(), 120))


def test_games_are_played_by_mouse_and_keyboard_to_mate_and_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_api, "Thinker", ScriptedThinker)
    run_dir = write_run(tmp_path / "runs" / "first", updates=1, games=1)
    game = json.loads((run_dir / "games.jsonl").read_text())
    harm = {"opponent": HOSTILE, "reason": HOSTILE, "game_id": [HOSTILE], "learner_color": HOSTILE}
    write_lines(run_dir / "games.jsonl", [game | harm | {"timestep": 1e999}])
    for timestep in (100, 200):
        save_untrained(run_dir, timestep=timestep)

    async def visit() -> None:
        async with served(run_dir, tmp_path / "profile") as (_, page, url):
            for width in (390, 1440):
                await play_to_mate(page, url, width)
            await repeat_with_keys(page, url)
            await see_hostile_games(page, url)
            assert page.errors == []
            assert {asked.partition("#")[0][: len(url)] for asked in page.requests} <= {
                url,
                "about:blank",
                "data:,",
            }

    asyncio.run(visit())
    lines = (run_dir / "human_games.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["reason"] for record in records] == ["mate", "mate", "repetition"]
    assert [record["take_backs"] for record in records] == [1, 1, 0]
    assert [record["hints"] for record in records] == [1, 1, 0]
    assert {record["timestep"] for record in records} == {200}
