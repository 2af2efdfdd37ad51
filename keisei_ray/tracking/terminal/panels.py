"""Panels of the live view: pure functions from the view state to lines of a given width."""

from collections.abc import Iterable
from typing import Final

from rich.text import Text

from keisei_ray.config.player_names import finishes_mates, version_of
from keisei_ray.evaluation.elo_table import players_beside
from keisei_ray.telemetry.rates import fraction
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.terminal import board, text
from keisei_ray.tracking.terminal.draw import (
    ACCENT,
    DIM,
    LABEL,
    MAX_TREND,
    STRONG,
    VALUE,
    labeled,
    meter,
    pad,
    row,
    spread,
    stacked,
    title,
    trend,
)
from keisei_ray.tracking.terminal.text import Glyphs
from keisei_ray.tracking.terminal.view_state import Entry, ViewState

LEVEL_STYLES: Final = {"DEBUG": DIM, "INFO": "", "WARNING": "yellow", "ERROR": "bold red"}
PHASE_STYLES: Final = {
    "starting": "yellow",
    "collecting": "yellow",
    "training": "green",
    "done": "bold green",
    "interrupted": "bold yellow",
    "failed": "bold red",
}
RESULTS: Final = (
    ("black", "black_wins", "bold"),
    ("white", "white_wins", "cyan"),
    ("draw", "draws", "yellow"),
    ("truncated", "truncated", "magenta"),
)
"""Label, metric and style of each way a game ends."""
STAGES: Final = (
    ("collect", "collect_time_s", "cyan"),
    ("update", "update_time_s", "green"),
    ("publish", "publish_time_s", "magenta"),
    ("wait", "wait_time_s", "yellow"),
)
"""Label, metric and style of each stage of an iteration. In overlap mode they run at the same time,
so the percentages compare them with one another and not with wall time."""
LEARNING: Final = (
    ("policy loss", "policy_loss", "+.4f"),
    ("value loss", "value_loss", ".4f"),
    ("entropy", "entropy", ".3f"),
    ("approx KL", "approx_kl", ".5f"),
    ("clip fraction", "clip_fraction", ".1%"),
    ("explained var", "explained_variance", "+.3f"),
    ("grad norm", "grad_norm", ".3f"),
    ("learning rate", "learning_rate", ".2e"),
)
"""Label, metric and format of each row with a trend."""
BRIEF: Final = ("value_loss", "entropy", "approx_kl", "explained_variance")
"""Metrics that are shown where the strength needs the other rows."""
STRENGTH_ROWS: Final = 4
"""Rows of the strength: with the title as many as BRIEF saves."""
BOARD_WIDTH: Final = 24
"""Width of the board in columns."""
LEGEND: Final = 54
"""Largest width of the legend of the stages' times."""
ONE_LINE_FROM: Final = 70
"""Width in columns from which actors and policy lag are on one line."""


def header(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows run directory and phase; network, device, schedule, cluster."""
    phase = row(
        (state.phase, PHASE_STYLES[state.phase]),
        f"  {text.duration(state.elapsed_s)}",
    )
    rest = max(0, width - len("Keisei Ray  ") - phase.cell_len - 1)
    where = text.clip_start(state.run_dir, rest, glyphs.ellipsis)
    amp = "" if state.amp in ("", "off") else f" {state.amp}"
    facts = [f"net {state.net}", f"device {state.device}{amp}", state.mode]
    facts.append(state.cluster)
    if state.resumed_from is not None:
        facts.append(f"resumed at {state.start_timestep:,}")
    line = text.clip("   ".join(f for f in facts if f.strip()), width, glyphs.ellipsis)
    return [spread(row(("Keisei Ray", ACCENT), "  ", where), phase, width), row(line)]


def progress(state: ViewState, width: int, glyphs: Glyphs) -> Text:
    """Shows a bar, the percentage done, the timestep of the total, and the time left."""
    done, total = state.timestep, state.total_timesteps
    part = text.percent(fraction(min(done, total), total))
    left = f"left {text.duration(state.remaining_s)}"
    if state.ended is not None:
        left = f"took {text.duration(state.ended.wall_time_s)}"
    counts = f"  {done:>{len(f'{total:,}')},} / {total:,}  {left:>13}"
    figures = row((f"  {part:>6}", STRONG), counts)
    if figures.cell_len > width:
        return row((f"{part:>6}", STRONG), f" of {total:,}  {left}")
    return row(meter(done, total, max(0, width - figures.cell_len), glyphs), figures)


def starting(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows actors and rollouts before the first update."""
    ready, wanted = len(state.actors_ready), state.num_actors
    arrived, needed = state.rollouts_arrived, state.rollouts_per_update
    bar = max(4, min(MAX_TREND, width - 36))
    if ready < wanted and not arrived:
        now = "Actors are loading the model and setting up games."
    elif not arrived:
        now = "All actors are playing their first rollouts."
    else:
        now = "Rollouts arrive; the first update comes next."
    rollouts = f"  {arrived} of {needed} arrived" if needed else f"  {arrived} arrived"
    return [
        title("starting", width, glyphs),
        labeled("actors", meter(ready, wanted, bar, glyphs), f"  {ready} of {wanted} ready"),
        labeled("rollouts", meter(arrived, needed, bar, glyphs), rollouts),
        labeled("plies", f"{arrived * state.timesteps_per_rollout:,} played"),
        row((text.clip(now, width, glyphs.ellipsis), DIM)),
    ]


def learning(state: ViewState, width: int, glyphs: Glyphs, *, is_brief: bool) -> list[Text]:
    """Shows losses and other figures of the last update, with their trends.

    Args:
        is_brief: whether only those of BRIEF are shown.
    """
    values = state.metrics
    scale = text.as_float(values.get("amp_scale"))
    facts = [
        f"update {text.figure(values.get('update'), ',')}",
        f"AMP {text.figure(values.get('amp_dtype'), '')}",
        f"scale {scale:,.0f}" if scale is not None else "",
        f"{text.figure(values.get('amp_skipped'), ',')} skipped",
    ]
    lines = [title("learning", width, glyphs, "  ".join(fact for fact in facts if fact))]
    for label, name, spec in LEARNING:
        if is_brief and name not in BRIEF:
            continue
        lines.append(_metric(state, label, name, spec, width, glyphs))
    return lines


def games(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows results as counts and percentages, and the length of games."""
    values = state.metrics
    counts = [text.as_float(values.get(name)) or 0.0 for _, name, _ in RESULTS]
    half = min((width + 1) // 2, 36)
    cells = _results(counts, half - 1, glyphs)
    return [
        title("games", width, glyphs, f"{text.figure(values.get('games_total'), ',')} finished"),
        stacked(counts, [style for *_, style in RESULTS], width, glyphs),
        row(pad(cells[0], half), cells[1]),
        row(pad(cells[2], half), cells[3]),
        _metric(state, "mean plies", "game_length_mean", ".1f", width, glyphs),
    ]


def _results(counts: list[float], width: int, glyphs: Glyphs) -> list[Text]:
    """Returns the count of each result, with as much of its percentage as fits beside it."""
    parts = [fraction(count, sum(counts)) for count in counts]
    cells: list[Text] = []
    for decimals, count_width in ((" {:>6.1%}", 7), (" {:>4.0%}", 6), ("", 6)):
        shown = ["" if part is None else decimals.format(part) for part in parts]
        cells = [
            row((shade, style), f" {label:<9}{count:>{count_width},.0f}", (part, DIM))
            for (label, _, style), count, shade, part in zip(
                RESULTS, counts, glyphs.shades, shown, strict=True
            )
        ]
        if all(cell.cell_len <= width for cell in cells):
            break
    return cells


def strength(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows the Elo of the newest weights evaluated with its curve; nothing without evaluation.

    The first row is that of the bare policy, the second of the finishing player; the last has known
    players to compare with, and the newest scores.
    """
    if not state.is_evaluated:
        return []
    lines = [title("strength", width, glyphs, "Elo over random, 95% interval")]
    names = _players(state)
    if not names:
        first = state.first_evaluation
        comes = first is not None and first <= state.total_timesteps
        when = f"; the first after {first:,}" if comes else ""
        lines.append(row((text.clip(f"no evaluation yet{when}", width, glyphs.ellipsis), DIM)))
    for name in names:
        elos = _curve(state, finishing=finishes_mates(name))
        lines.append(trend(name, elo_text(state.ratings.get(name)), elos, width, glyphs))
    lines += [Text()] * (STRENGTH_ROWS - 1 - len(lines))
    _, beside, scores = strength_of(state)
    return [
        *lines,
        row((text.clip(_that_fit([*beside, *scores], width), width, glyphs.ellipsis), DIM)),
    ]


def _players(state: ViewState) -> list[str]:
    """Returns the newest weights that have matches, as bare and as finishing players.

    A run that goes on has no match at first: they are then the newest of its Elo table.
    """
    names = {match.player for match in state.matches}
    if not names:
        versions = {name: version_of(name) for name in state.ratings}
        newest = max((v for v in versions.values() if v is not None), default=None)
        names = {name for name, v in versions.items() if v is not None and v == newest}
    return sorted(names, key=finishes_mates)


def _curve(state: ViewState, *, finishing: bool) -> list[float]:
    """Returns the Elo of all versions of a kind, oldest first."""
    elos = {
        version: rating.elo
        for name, rating in state.ratings.items()
        if (version := version_of(name)) is not None
        and finishes_mates(name) == finishing
        and rating.elo is not None
    }
    return [elos[version] for version in sorted(elos)]


def _that_fit(parts: list[str], width: int) -> str:
    """Returns as many of the first parts as fit on a line, at least one."""
    line = "  ".join(parts)
    return _that_fit(parts[:-1], width) if len(line) > width and len(parts) > 1 else line


def strength_of(state: ViewState) -> tuple[list[str], list[str], list[str]]:
    """Returns the strength of the newest weights evaluated, most important first.

    Returns:
        The Elo of the bare policy and of the finishing player: `v12 Elo +312 +-33`; known players
        to compare with: `greedy +1720`; and the scores of the bare policy: `greedy 44%`.
    """
    names = _players(state)
    if not names:
        return ["no evaluation yet"], [], []
    ratings = [state.ratings.get(name) for name in names]
    elos = [f"{n} Elo {elo_text(rating)}" for n, rating in zip(names, ratings, strict=True)]
    bare = [match for match in state.matches if not match.finishing]
    beside = beside_text(ratings[0], state.ratings.values())
    return elos, beside, [f"{m.opponent} {m.match.score:.0%}" for m in bare]


def beside_text(rating: Rating | None, table: Iterable[Rating]) -> list[str]:
    """Returns greedy and the nearest known player with their Elo, to compare a rating with."""
    if rating is None or rating.elo is None:
        return []
    return [f"{name} {elo:+.0f}" for name, elo in players_beside(rating.elo, table)]


def elo_text(rating: Rating | None) -> str:
    """Formats an Elo: `+312 +-33`; `above +280` or `below -280` where a bound is missing; `-`."""
    if rating is None or rating.elo is None:
        return "-"
    if rating.low is None or rating.high is None:
        bound = rating.low if rating.high is None else rating.high
        side = "above" if rating.high is None else "below"
        return f"{side} {bound:+.0f}"
    return f"{rating.elo:+.0f} +-{(rating.high - rating.low) / 2:.0f}"


def system(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows rates, actors, policy lag, and the time of each stage."""
    values = state.metrics
    total = text.figure(values.get("sps_total"), ",.0f")
    alive = values.get("actors_alive")
    is_short = isinstance(alive, int) and alive < state.num_actors
    up = f"{text.figure(alive, ',')}/{state.num_actors or '?'}"
    restarts = text.figure(values.get("actor_restarts"), ",")
    lag = text.figure(values.get("policy_lag_mean"), ".2f")
    lag_max = text.figure(values.get("policy_lag_max"), ",")
    whole_run = row((" sps_total ", DIM), (total, STRONG))
    beside = width - whole_run.cell_len - 1
    speed = [_metric(state, "sps", "sps", ",.0f", beside, glyphs)]
    if beside >= LABEL + VALUE:
        speed = [spread(speed[0], whole_run, width)]
    else:
        speed.append(labeled("sps_total", (f"{total:>{VALUE}}", STRONG)))
    actors = labeled(
        "actors",
        (f"{up:>{VALUE}}", "bold yellow" if is_short else STRONG),
        ("  restarts ", DIM),
        restarts,
    )
    lines = [title("system", width, glyphs), *speed]
    if width >= ONE_LINE_FROM:
        lines.append(row(actors, ("  policy lag mean ", DIM), lag, (" max ", DIM), lag_max))
    else:
        mean = (f"{lag:>{VALUE}}", STRONG)
        lines += [actors, labeled("policy lag", mean, ("  mean, max ", DIM), lag_max)]
    return lines + _time(state, width, glyphs)


def _time(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows stage times as a stacked bar, its legend beside it or, where it is narrow, below."""
    parts = [text.as_float(state.metrics.get(name)) or 0.0 for _, name, _ in STAGES]
    styles = [style for *_, style in STAGES]
    keys = [
        row((shade, style), (f" {label} ", DIM), f"{fraction(part, sum(parts)) or 0:.0%}")
        for (label, _, style), part, shade in zip(STAGES, parts, glyphs.shades, strict=True)
    ]
    key = Text("  ").join(keys)
    beside = width - 6 - 2 - key.cell_len
    if beside >= 12:
        return [row(("time  ", DIM), stacked(parts, styles, min(beside, 60), glyphs), "  ", key)]
    bar = labeled("time", stacked(parts, styles, max(0, width - 14), glyphs))
    if width >= LEGEND:
        return [bar, key]
    return [bar, Text("  ").join(keys[:2]), Text("  ").join(keys[2:])]


def _metric(state: ViewState, label: str, name: str, spec: str, width: int, glyphs: Glyphs) -> Text:
    """Shows a metric's figure and its sparkline over this session."""
    history = state.trends.get(name)
    value = text.figure(state.metrics.get(name), spec)
    return trend(label, value, history.points() if history else (), width, glyphs)


def notices(state: ViewState, count: int, width: int, glyphs: Glyphs) -> list[Text]:
    """Shows the last notices, newest last; always `count` lines and a title.

    The newest warning keeps the first line until the session ends, however many notices follow.
    """
    saved = state.checkpoint
    new = "" if state.resumed_from is None else "new "
    note = f"last checkpoint {saved.timestep:,}" if saved else f"no {new}checkpoint yet"
    if state.faults:
        note = f"{_plural(state.faults, 'warning')}, {note}"
    shown = state.notices[-count:] if count else ()
    if count > 1 and not {*state.warnings[-1:]} <= {*shown}:
        shown = (state.warnings[-1], *shown[1:])
    lines = [_entry(entry, width - 1, glyphs) for entry in shown]
    lines += [Text()] * (count - len(lines))
    return [title("notices", width, glyphs, note), *lines]


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _entry(entry: Entry, width: int, glyphs: Glyphs) -> Text:
    when = f"{text.duration(entry.elapsed_s)}  "
    level = f"{entry.level:<9}" if entry.level in ("WARNING", "ERROR") else ""
    message = text.clip(level + entry.message, max(0, width - len(when)), glyphs.ellipsis)
    return row((when, DIM), (message, LEVEL_STYLES[entry.level]))


def sample_game(state: ViewState, glyphs: Glyphs) -> list[Text]:
    """Shows one game in play as a board of BOARD_WIDTH columns, its last move highlighted."""
    position = state.sample
    name = "the last game" if state.is_sample_over else "a game in play"
    lines = [title(name, BOARD_WIDTH, glyphs)]
    if position is None:
        return [*lines, Text(), row(("none reported yet", DIM))]
    move = state.sample_last_move
    target = board.destination(move) if move is not None else None
    lines.append(_hand("white", position.white_hand, not position.black_to_move, glyphs))
    lines.append(row(("  " + " ".join(board.FILES), DIM)))
    for r, cells in enumerate(position.cells):
        squares = [(cell, _square_style(cell, (r, c) == target)) for c, cell in enumerate(cells)]
        lines.append(row(" ", *squares, ("  " + board.RANKS[r], DIM)))
    lines.append(_hand("black", position.black_hand, position.black_to_move, glyphs))
    lines.append(row((f" ply {position.ply}", DIM), f"  {move}" if move is not None else ""))
    return lines


def _square_style(cell: str, is_target: bool) -> str:
    if is_target:
        return "bold reverse"
    if cell == board.EMPTY:
        return DIM
    return STRONG if cell[1].isupper() else "cyan"


def _hand(side: str, pieces: str, is_to_move: bool, glyphs: Glyphs) -> Text:
    """Shows a side's name, marked when it is to move, and its pieces in hand."""
    mark = ">" if is_to_move else " "
    held = text.clip(pieces, BOARD_WIDTH - len(side) - 2, glyphs.ellipsis)
    return row((mark, STRONG), (f"{side} ", DIM), held)
