"""The parts of the documentation that are read off the code, so that they cannot drift.

A page asks for one by a line `<!-- generated: NAME -->`, which mkdocs replaces while it builds
(`hooks` in mkdocs.yml). Nothing generated is kept in git.
"""

import ast
import inspect
import itertools
import re
import textwrap
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from keisei_ray.arguments import argument_parser
from keisei_ray.config.describe import SETTINGS
from keisei_ray.config.schema import Config
from keisei_ray.telemetry import events
from keisei_ray.telemetry.diagnostics import DIAGNOSTICS
from keisei_ray.telemetry.metrics import METRICS, Metric
from keisei_ray.tracking import prometheus
from keisei_ray.usi.options import TABLE as USI_OPTIONS
from keisei_ray.usi.options import Options

ROOT = Path(__file__).parents[1]
MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
OUTSIDE_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Hook of mkdocs: a page's Markdown before it is rendered, with everything filled in."""
    return name_outside_files(fill_in(markdown))


def fill_in(markdown: str) -> str:
    """Replaces each marker by what it names.

    Raises:
        KeyError: nothing is generated under that name.
    """
    return MARKER.sub(lambda found: GENERATED[found[1]](), markdown)


def name_outside_files(markdown: str) -> str:
    """Turns links to files outside `docs/`, which the site does not hold, into their paths."""

    def as_path(found: re.Match[str]) -> str:
        text, path = found[1], found[2]
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return OUTSIDE_LINK.sub(as_path, markdown)


def settings() -> str:
    """Every setting, a table for each section."""
    parts = []
    for section, field in Config.model_fields.items():
        rows = [
            (f"`{s.key}`", f"`{s.default_text}`", escape(s.expected), escape(s.description))
            for s in SETTINGS.values()
            if s.key.startswith(f"{section}.")
        ]
        heading = f"## `{section}`\n\n{inspect.getdoc(field.annotation)}\n\n"
        parts.append(heading + table(("Setting", "Default", "Allowed", "Meaning"), rows))
    return "\n".join(parts)


def metrics() -> str:
    """Every key of `metrics.jsonl`."""
    return metrics_table(METRICS)


def diagnostics() -> str:
    """Every key of `diagnostics.jsonl`."""
    return metrics_table(DIAGNOSTICS)


def event_kinds() -> str:
    """Every event and its fields, a heading for each."""
    parts = []
    for event in events.Event.__subclasses__():
        heading = f"### `{event.kind}`\n\n{escape(inspect.getdoc(event) or '')}\n\n"
        parts.append(heading + table(("Field", "Meaning"), documented_fields(event)))
    return "\n".join(parts)


def prometheus_names() -> str:
    """Every series that a run exports."""
    return table(("Series",), [(f"`{name}`",) for name in sorted(prometheus.series())])


def command_line() -> str:
    """Help texts of each command, and of the program as a whole."""
    parser = argument_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, _SubParsersAction))
    parts = [help_of("run.py", parser)]
    parts += [help_of(f"run.py {name}", child) for name, child in commands.choices.items()]
    return "\n".join(parts)


def usi_options() -> str:
    """Every option of the USI engine."""
    options = Options()
    rows = [
        (f"`{option.name}`", escape(option.declaration(getattr(options, option.field))),
         escape(option.meaning))
        for option in USI_OPTIONS
    ]  # fmt: skip
    return table(("Option", "As it is listed", "Meaning"), rows)


def changelog() -> str:
    """The change log without its title."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2]


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings,
    "metrics": metrics,
    "diagnostics": diagnostics,
    "events": event_kinds,
    "prometheus": prometheus_names,
    "command-line": command_line,
    "usi-options": usi_options,
    "changelog": changelog,
}
"""Name in a marker -> what makes the Markdown."""


def metrics_table(metrics: Iterable[Metric]) -> str:
    """Names, types, units and meanings."""
    return table(
        ("Name", "Type", "Unit", "Meaning"),
        [(f"`{m.name}`", m.type, m.unit, escape(m.meaning)) for m in metrics],
    )


def documented_fields(record: type) -> list[tuple[str, str]]:
    """(name, meaning) of each field of a dataclass, from the docstrings below the fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(record)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    meanings = {}
    for field, following in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    meanings[field.target.id] = " ".join(text.split())
    return [(f"`{f.name}`", escape(meanings.get(f.name, ""))) for f in fields(record)]


def help_of(name: str, parser: ArgumentParser) -> str:
    """A heading and the text that `--help` prints."""
    return f"## `{name}`\n\n```text\n{parser.format_help().strip()}\n```\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells as a Markdown table."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def escape(text: str) -> str:
    """Prose of the code as Markdown: what would be read as HTML, a table's border or a link."""
    parts = re.split(r"(`[^`]*`)", text)  # What is set as code stays as it is.
    signs = str.maketrans({"<": "&lt;", ">": "&gt;", "|": "&#124;", "*": r"\*", "[": r"\["})
    return "".join(p if p.startswith("`") else p.translate(signs) for p in parts)
