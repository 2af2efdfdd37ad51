"""Page of a run: one HTML text with its style and scripts inside."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from keisei_ray.invocation import program
from keisei_ray.report import charts, summary, tables
from keisei_ray.report.chart_data import Chart, Frame, ShareChart, charts_data
from keisei_ray.report.games import ShownGame, shown_games
from keisei_ray.report.run_files import Run

DOCTYPE: Final = "<!doctype html>"
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)
"""Content security policy: a browser may load nothing that is not in the page."""
_EXPORT: Final = re.compile(r"^export ", re.MULTILINE)
_END_STATES: Final = {
    "done": "finished",
    "interrupted": "stopped by hand",
    "failed": "failed",
    "not ended": "not ended",
    "not started": "not begun",
}
_OPPONENTS: Final = (
    "<b>random</b> plays any legal move with equal chance. <b>greedy</b> plays mate in one where "
    "there is one, else wins the most material at once. <b>v</b> and a number are this run's "
    "weights after so many updates; <b>+mate1</b>: with every mate in one played. "
    "<b>usi:</b> is another program."
)


def render(run: Run) -> str:
    """Returns the page of a run. Everything that comes from its files is escaped."""
    frame = charts.frame(run)
    name = run.path.resolve().name
    sections = {
        "Strength": _strength(run, frame),
        "Results": grid(charts.result_charts(run), frame),
        "Games": _games(run, shown_games(run.games)),
        "Learning": grid(charts.learning_charts(run), frame),
        "Speed": grid(charts.speed_charts(run), frame),
        "Events": tables.events_table(run.events, run.events_left_out),
        "Settings": _folded("All settings of the run", tables.settings_table(run.config))
        + _folded("All metrics and what they mean", tables.glossary()),
    }
    return document(name, _header(run, name), sections, _footer(run))


def document(title: str, header: str, sections: Mapping[str, str], footer: str) -> str:
    """Returns a whole page: one HTML text that needs nothing else.

    Args:
        title: as text; the other arguments are HTML.
        header: what stands above the links to the sections.
        sections: title of each section -> its content.
        footer: what stands below them.
    """
    names = {key: key.lower().replace(" ", "-") for key in sections}
    links = "".join(f'<a href="#{name}">{key}</a>' for key, name in names.items())
    body = "".join(
        f'<section id="{names[key]}"><h2>{key}</h2>{content}</section>'
        for key, content in sections.items()
    )
    return (
        f'{DOCTYPE}<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)} - Keisei Ray</title>"
        f"<style>{_resource('shared/vendor/uplot/uPlot.min.css')}{_resource('shared/theme.css')}"
        f"{_resource('page.css')}</style></head><body>{header}<nav>{links}</nav><main>{body}</main>{footer}"
        f"<script>{_uplot()}</script><script>{_charts_script()}{_resource('replay.js')}</script>"
        "</body></html>\n"
    )


def _header(run: Run, name: str) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in summary.headline(run))
    tiles = "".join(
        f"<div><dt>{escape(fact.name)}</dt><dd>{escape(fact.text)}"
        + (f"<small>{escape(fact.note)}</small>" if fact.note else "")
        + "</dd></div>"
        for fact in summary.facts(run)
    )
    state = summary.end_state(run)
    return (
        f'<header><p class="brand">Keisei Ray</p><h1>{escape(name)} '
        f'<span class="state {state.replace(" ", "-")}">{_END_STATES[state]}</span></h1>'
        f'<div class="lead">{sentences}</div>{tables.warnings_list(run.events)}'
        f'<dl class="facts">{tiles}</dl></header>'
    )


def _strength(run: Run, frame: Frame) -> str:
    shown = charts.strength_charts(run)
    table = tables.matches_table(summary.newest_matches(run))
    if not shown and not table:
        return (
            '<p class="none">No match against an opponent is on record. One is played by '
            f"<code>{_command('evaluate', '--checkpoint', str(run.path), '--opponent', 'random')}"
            "</code>.</p>"
        )
    caption = "<h3>Newest match against each opponent</h3>" if table else ""
    return grid(shown, frame) + caption + table + f'<p class="about">{_OPPONENTS}</p>'


def _games(run: Run, games: Sequence[ShownGame]) -> str:
    """Returns the games to replay, or why there are none."""
    if not games:
        why = (
            "No game has ended yet."
            if not run.games.num_games
            else "No moves to show: they are saved where tracking.save_moves is true."
        )
        return f'<p class="none">{why}</p>'
    return replays(games)


def replays(games: Sequence[ShownGame], *, has_choice: bool = True) -> str:
    """Returns games to replay: a button for each, and the element in which the script draws.

    Args:
        games: at least one.
        has_choice: whether there are buttons; without them the first game is shown.
    """
    buttons = "".join(
        f'<button type="button" data-game="{i}" aria-pressed="false"><b>{escape(game.why)}</b>'
        f"<span>{escape(game.title)}</span></button>"
        for i, game in enumerate(games)
    )
    choice = f'<div class="choice" role="group" aria-label="Game">{buttons}</div>'
    data = embedded([game.data for game in games])
    return (
        f'<div id="replay">{choice if has_choice else ""}'
        '<noscript><p class="none">The board needs JavaScript.</p></noscript></div>'
        f'<script type="application/json" id="games-data">{data}</script>'
    )


def grid(shown: Iterable[Chart | ShareChart], frame: Frame) -> str:
    """Returns charts side by side: their data, which the page's script draws."""
    data = charts_data(shown, frame, None)
    return (
        '<div class="grid" data-charts><noscript><p class="none">Charts need JavaScript.</p>'
        f'</noscript><script type="application/json">{embedded(data)}</script></div>'
    )


def embedded(data: object) -> str:
    """Returns JSON for a script element: no character in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _footer(run: Run) -> str:
    left_out = "; ".join(f"{name}: {count}" for name, count in run.damaged.items())
    note = f"<p>Lines that could not be read and were left out: {escape(left_out)}.</p>"
    return (
        f"<footer><p>Made by <code>{_command('report', str(run.path))}</code>.</p>"
        f"{note if left_out else ''}</footer>"
    )


def _command(*words: str) -> str:
    """Returns a command of this program, for a shell, as HTML."""
    return escape(f"{program()} {shlex.join(words)}")


def _uplot() -> str:
    """Returns the library that draws charts, below its license."""
    license_text = _resource("shared/vendor/uplot/LICENSE")
    return f"/*\n{license_text}*/\n{_resource('shared/vendor/uplot/uPlot.iife.min.js')}"


def _charts_script() -> str:
    """Returns the script of the charts, which the web server serves as a module, as plain code."""
    return f"(() => {{{_EXPORT.sub('', _resource('shared/charts.js'))}}})();"


def _resource(name: str) -> str:
    """Returns the text of a file of this package."""
    return (files("keisei_ray.report") / name).read_text(encoding="utf-8")
