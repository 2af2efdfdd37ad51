"""The command `analyze`: a network's opinion of positions or of a whole game."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from keisei_ray.analysis import as_json, kif, page, text
from keisei_ray.analysis.findings import Findings, Position, find
from keisei_ray.analysis.source import Source, read_game, read_position
from keisei_ray.analysis.turning_points import TurningPoint, turning_points
from keisei_ray.errors import ConfigError
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.players.searching import network_evaluation
from keisei_ray.report.command import check_page_file, write_page
from keisei_ray.search.search import Evaluate
from keisei_ray.shogi.replay import replay
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.result_file import check_output_file
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tracking.terminal.text import glyphs_for

_KIF_ENCODINGS = {".kif": "cp932", ".kifu": "utf-8"}
"""Ending of a KIF file -> its encoding; `.kif` is Shift-JIS as Windows has it."""


@dataclass(frozen=True)
class AnalyzeOptions:
    """Arguments of the command `analyze`."""

    checkpoint: str
    """Path or URI of a run or a checkpoint."""
    game: str | None = None
    """File of a game, see `source.read_game`; None: positions are analyzed."""
    sfens: Sequence[str] = ()
    """Positions, see `source.read_position`."""
    simulations: int = 200
    """Simulations from each position; 0: the network alone."""
    kif: Path | None = None
    """File for the game with findings as comments."""
    html: Path | None = None
    """File for the page."""


def analyze(options: AnalyzeOptions, console: Console) -> dict[str, Any]:
    """Analyzes positions or a game, shows what is found, and writes the files asked for.

    Args:
        options: what to analyze, and with what.
        console: where progress and findings are drawn.

    Returns:
        The findings, JSON-serializable, see docs/analyze.md.

    Raises:
        ConfigError: no game and no position or both, one that cannot be read or played, or a file
            that cannot be written.
        CheckpointError: the checkpoint is missing or damaged.
        StorageError: the checkpoint's URI cannot be reached or read.
    """
    sources = _sources(options)
    _check_files(options)
    where, saved = open_checkpoint(options.checkpoint)
    evaluate = network_evaluation(load_model(saved))
    network = f"{saved.path.name} with {_search_words(options.simulations)}"
    _print(console, [Text(visible(f"{network}. A chance counts a draw as half. Black is Sente."))])
    result: dict[str, Any] = {
        "schema": as_json.SCHEMA,
        "checkpoint": where,
        "timestep": saved.timestep,
        "weights_version": saved.info.get("weights_version"),
        "simulations": options.simulations,
    }
    if options.game is None:
        findings = _analyze_positions(sources, evaluate, options.simulations, console)
        _write(options.html, lambda: page.positions_page(sources, findings, network))
        return result | {"positions": [as_json.position_json(f) for f in findings]}
    (source,) = sources
    findings, points = _analyze_game(source, evaluate, options.simulations, console)
    if options.kif:
        annotated = kif.annotated(source, findings, points, saved.path.name)
        _write_kif(options.kif, annotated, console)
    _write(options.html, lambda: page.game_page(source, findings, points, network))
    return result | {"game": as_json.game_json(source, findings, points)}


def _sources(options: AnalyzeOptions) -> list[Source]:
    if (options.game is None) == (not options.sfens):
        raise ConfigError(
            "analyze: expected a game's file, or positions by --sfen. Give one of these."
        )
    if options.game is not None:
        return [read_game(options.game)]
    if options.kif:
        raise ConfigError(f"--kif {options.kif}: expected a game's file, not --sfen. Leave it out.")
    return [read_position(sfen) for sfen in options.sfens]


def _check_files(options: AnalyzeOptions) -> None:
    """Refuses files that cannot be written, before the work begins."""
    if options.html:
        check_page_file(options.html, "--html")
    file = options.kif
    if file is None:
        return
    if file.suffix.lower() not in _KIF_ENCODINGS:
        raise ConfigError(
            f"--kif {file}: expected a name that ends in .kifu (UTF-8) or .kif (Shift-JIS)."
        )
    check_output_file(file, "--kif")
    # FILE:N, a game of several, is no path; a KIF file has one game.
    is_path = options.game is not None and os.path.exists(options.game)
    if options.game and is_path and file.exists() and file.samefile(options.game):
        raise ConfigError(f"--kif {file}: is the game itself. Name another file.")


def _search_words(simulations: int) -> str:
    if simulations == 0:
        return "no search"
    return f"{simulations} simulation{'s' if simulations > 1 else ''} a position"


def _analyze_positions(
    sources: Sequence[Source], evaluate: Evaluate, simulations: int, console: Console
) -> list[Findings]:
    positions = [source.positions[0] for source in sources]
    findings = []
    with _progress(console, len(positions)) as on_progress:
        for source, found in zip(
            sources, find(positions, evaluate, simulations, on_progress), strict=True
        ):
            findings.append(found)
            _print(console, text.position_lines(found, visible(source.name)))
    return findings


def _analyze_game(
    source: Source, evaluate: Evaluate, simulations: int, console: Console
) -> tuple[list[Findings], list[TurningPoint]]:
    players = f"{source.black or 'Black'} - {source.white or 'White'}"
    end = f", {source.end}" if source.end else ""
    _print(console, [Text(visible(f"{players}{end}. {len(source.moves)} moves."), style="bold")])
    _print(console, [Text(text.GAME_HEAD, style="dim")])
    western = replay(source.moves, source.start_sfen).western
    findings = _find_game(source.positions, evaluate, simulations, console, source.moves, western)
    if source.fault:
        _print(
            console,
            [Text(visible(f"The analysis ends here: {source.fault}."), style="bold red")],
        )
    points = turning_points(findings, source.moves, first_ply=source.opening_plies)
    glyphs = glyphs_for(console.encoding)
    _print(console, text.graph([f.black_chance for f in findings], console.width, glyphs))
    _print(console, text.turning_point_lines(points, findings))
    return findings, points


def _find_game(
    positions: Sequence[Position],
    evaluate: Evaluate,
    simulations: int,
    console: Console,
    moves: Sequence[str],
    western: Sequence[str],
) -> list[Findings]:
    """Analyzes the positions of a game, each shown as soon as it is known."""
    findings: list[Findings] = []
    with _progress(console, len(positions)) as on_progress:
        for found in find(positions, evaluate, simulations, on_progress):
            findings.append(found)
            _print(console, [text.game_line(findings, moves, western, len(findings) - 1)])
    return findings


@contextmanager
def _progress(console: Console, num_positions: int) -> Iterator[Callable[[float], None]]:
    """Shows a bar on a terminal; yields the function that moves it."""
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task("positions", total=num_positions)
        yield lambda done: bar.update(task, completed=done)


def _print(console: Console, lines: Sequence[Text]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _write(file: Path | None, page: Callable[[], str]) -> None:
    if file is not None:
        write_page(file, page(), "--html")


def _write_kif(file: Path, record: str, console: Console) -> None:
    encoding = _KIF_ENCODINGS[file.suffix.lower()]
    content = record.encode(encoding, errors="replace")
    num_lost = sum(a != b for a, b in zip(record, content.decode(encoding), strict=True))
    try:
        write_atomically(file, content)
    except OSError as error:
        raise ConfigError(f"--kif {file}: not written: {error.strerror}.") from error
    if num_lost:
        _print(
            console,
            [
                Text(
                    f"{num_lost} characters of {file} are not in Shift-JIS and are written as "
                    "'?'. A name that ends in .kifu keeps them."
                )
            ],
        )
