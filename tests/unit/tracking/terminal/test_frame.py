"""The frame of the live view: a pure function of the state and the size."""

import dataclasses
import io
import math
import re

import pytest
from rich.console import Console
from rich.text import Text

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.terminal import text
from keisei_ray.tracking.terminal.frame import render
from keisei_ray.tracking.terminal.panels import elo_text, sample_game
from keisei_ray.tracking.terminal.view_state import ViewState, fold
from tests.helpers.run_events import (
    HIRATE,
    evaluated,
    fake_metrics,
    record,
    run_started,
    updated,
)
from tests.helpers.view_states import folded


def frame(
    state: ViewState, width: int, height: int | None = None, glyphs: text.Glyphs = text.UNICODE
) -> list[str]:
    """Returns a frame's lines as plain text, not wrapped."""
    console = Console(width=1000, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(render(state, width, height, glyphs))
    return capture.get().splitlines()


def evaluations() -> list[ev.Event]:
    """Returns matches of version 40, then of version 50, and the fitted table."""
    ratings = (
        Rating("v50+mate1", 780.0, 610.0, None, 32),
        Rating("v50", 312.4, 280.0, 345.0, 64),
        Rating("random", 0.0, 0.0, 0.0, 128),
        Rating("x", None, None, None, 2),
    )
    return [
        evaluated(40, "random", wins=3),
        evaluated(50, "random", wins=31, draws=1),
        evaluated(50, "random", wins=32, finishing=True),
        evaluated(50, "greedy", wins=14),
        ev.RatingsFitted(ratings, 50_000),
    ]


def stages(num_actors: int = 2) -> list[ViewState]:
    """Returns a state of each phase, with faults."""
    started: list[ev.Event] = [run_started(num_actors), ev.ActorReady(0, 0, 1, "n")]
    arrived = [*started, ev.RolloutArrived(0, 0, 0, 2048)]
    faults = [ev.ActorLost(0, 0, "x" * 500, 1), ev.Notice("note"), ev.RolloutRejected(1, "bad")]
    training = [*arrived, *faults, *(updated(i) for i in range(1, 60))]
    saved = [*training, *evaluations(), ev.CheckpointSaved("c", 59_000)]
    ended = [ev.RunEnded(reason, 59_000, "c", 59.0) for reason in ("done", "failed")]
    stages = [folded(), *(folded(*events) for events in (started, arrived, training, saved))]
    return [*stages, *(folded(*saved, end) for end in ended)]


@pytest.mark.parametrize("glyphs", [text.UNICODE, text.ASCII])
def test_no_line_is_wider_than_the_terminal(glyphs: text.Glyphs) -> None:
    for state in stages():
        for width in (3, 11, 24, 40, 41, 75, 76, 77, 80, 99, 119, 120, 121, 150, 151, 220):
            lines = list(render(state, width, 24, glyphs).renderables)
            assert lines
            assert all(isinstance(line, Text) and line.cell_len <= width for line in lines), width


@pytest.mark.parametrize("width", [40, 41, 60, 75, 76, 80, 100, 119, 120, 121, 130, 140, 150])
@pytest.mark.parametrize("games", [10, 120_000])
def test_no_figure_is_cut_in_the_middle(width: int, games: int) -> None:
    black = games * 6 // 10
    results = {"black_wins": black, "white_wins": games - black, "draws": 0, "truncated": 0}
    update = updated(1, sps=12_345.0, sps_total=9_876.0, games_total=games, **results)
    lines = frame(folded(run_started(total_timesteps=10_000_000), update), width)
    shown = "\n".join(lines)
    for figure in (r"sps +12,345", r"sps_total +9,876", r"publish 10%", r"wait 10%"):
        assert re.search(rf"{figure}(?!\S)", shown), (figure, shown)
    assert re.search(r"1,000 / 10,000,000|of 10,000,000", shown)
    assert re.search(r"left \d+:\d\d:\d\d(?!\S)", shown)
    for label, count, part in (("black", 0.6, "60"), ("white", 0.4, "40"), ("truncated", 0, "0")):
        found = re.search(rf"{label} +{int(games * count):,}(?!\S)(?: +([\d.]\S*))?", shown)
        assert found, (label, shown)
        assert found[1] in (None, f"{part}%", f"{part}.0%"), shown


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_echo_of_an_interrupt_fits_behind_the_last_line(width: int) -> None:
    for state in stages():
        *_, last = render(state, width, 24).renderables
        assert isinstance(last, Text)
        assert last.cell_len + len("^C") <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_a_frame_fits_a_terminal_of_24_rows_and_shows_notices_in_what_is_left(width: int) -> None:
    for state in stages():
        lines = frame(state, width, 24)
        assert len(lines) <= 24
        assert any(line.startswith(" notices") for line in lines)
    assert any("note" in line for line in frame(stages()[3], width, 24))


def test_the_newest_warning_stays_in_view_until_another_comes() -> None:
    events = [ev.Notice("trouble", "WARNING"), *(ev.Notice(f"note {i}") for i in range(30))]
    for height in (None, 24):
        shown = frame(folded(run_started(), updated(1), *events), 80, height)
        (line,) = (i for i, text in enumerate(shown) if "trouble" in text)
        assert shown[line - 1].startswith(" notices")
        assert "1 warning, no checkpoint yet" in shown[line - 1]
        assert "note 29" in shown[-1]
        assert len(shown) == len(frame(folded(run_started(), updated(1)), 80, height))
    state = folded(run_started(), updated(1), *events, ev.Notice("worse", "WARNING"))
    assert [text for text in frame(state, 80, 24) if "trouble" in text] == []


def test_the_frame_keeps_its_shape_while_training() -> None:
    for width in (80, 100, 140):
        early = folded(run_started(), updated(1))
        late = folded(run_started(), *(updated(i) for i in range(1, 99)), ev.Notice("x"))
        assert len(frame(early, width)) == len(frame(late, width))


def test_the_same_state_gives_the_same_frame() -> None:
    for first, second in zip(stages(), stages(), strict=True):
        assert frame(first, 100) == frame(second, 100)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_one_actor_or_many_differ_only_in_their_number(width: int) -> None:
    one, many = (folded(run_started(n), updated(3, actors_alive=n)) for n in (1, 256))
    differing = [
        (a, b) for a, b in zip(frame(one, width), frame(many, width), strict=True) if a != b
    ]
    assert len(differing) == 1
    assert "1/1" in differing[0][0]
    assert "256/256" in differing[0][1]


def test_a_frame_shows_the_figures_of_the_last_update() -> None:
    shown = "\n".join(frame(folded(run_started(), updated(1), updated(7)), 100))
    for figure in (
        "runs/x",
        "training",
        "1x32 relu",
        "device cpu",
        "1 node, 2 CPUs",
        "7.0%",
        "7,000 / 100,000",
        "update 7",
        "70 finished",
        "black         35  50.0%",
        "white         21  30.0%",
        "draw           7  10.0%",
        "truncated      7  10.0%",
        "mean plies          98.5",
        "policy loss      -0.0123",
        "value loss        0.4567",
        "entropy            3.210",
        "approx KL        0.01234",
        "clip fraction      12.5%",
        "explained var     +0.345",
        "learning rate   2.97e-04",
        "grad norm          0.789",
        "AMP bf16",
        "sps                1,000",
        "sps_total 1,000",
        "2/2  restarts 0  policy lag mean 0.50 max 1",
        "collect 60%",
        "update 20%",
        "publish 10%",
        "wait 10%",
        "ply 1  7g7f",
    ):
        assert figure in shown, figure


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_metric_without_a_value_is_drawn(value: float | None) -> None:
    names = [name for name in METRIC_NAMES if isinstance(record(1)[name], float)]
    state = folded(run_started(), updated(1), updated(2, **dict.fromkeys(names, value)))
    for width in (60, 80, 140):
        assert any("policy loss" in line for line in frame(state, width))


def test_before_the_first_update_the_frame_shows_actors_and_rollouts() -> None:
    state = folded(run_started(num_actors=8), ev.ActorReady(3, 0, 1, "n"))
    assert state.phase == "starting"
    assert any("1 of 8 ready" in line for line in frame(state, 80))
    assert any("0 of 4 arrived" in line for line in frame(state, 80))
    state = fold(state, ev.RolloutArrived(3, 0, 0, 2048), 9.0)
    assert state.phase == "collecting"
    assert any("1 of 4 arrived" in line for line in frame(state, 80))
    assert any("1,024 played" in line for line in frame(state, 80))
    assert fold(state, updated(1), 10.0).phase == "training"


def test_an_ascii_terminal_gets_ascii() -> None:
    assert text.glyphs_for("ascii") is text.ASCII
    assert text.glyphs_for("latin-1") is text.ASCII
    assert text.glyphs_for("utf-8") is text.UNICODE
    for state in stages()[:4]:
        assert "\n".join(frame(state, 80, glyphs=text.ASCII)).isascii() or state.faults


def test_the_board_is_drawn_with_its_last_move_highlighted() -> None:
    sfen = "ln1g3nl/1ks2gr2/1pp1ppbpp/p2p2p2/9/P1PP1P1+b1/1P2PSPPP/2G2S1R1/LNK2G1NL w 2P4Ss 42"
    lines = sample_game(
        folded(run_started(), ev.UpdateFinished(fake_metrics(1), sfen, "8h2f+")), text.ASCII
    )
    assert [line.plain.rstrip() for line in lines[1:]] == [
        ">white s",
        "  9 8 7 6 5 4 3 2 1",
        "  l n . g . . . n l  a",
        "  . k s . . g r . .  b",
        "  . p p . p p b p p  c",
        "  p . . p . . p . .  d",
        "  . . . . . . . . .  e",
        "  P . P P . P .+b .  f",
        "  . P . . P S P P P  g",
        "  . . G . . S . R .  h",
        "  L N K . . G . N L  i",
        " black 2P4S",
        " ply 41  8h2f+",
    ]
    marked = [
        (row, line.plain[span.start : span.end])
        for row, line in enumerate(lines[3:12])
        for span in line.spans
        if "reverse" in str(span.style)
    ]
    assert marked == [(5, "+b")]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_strength_of_the_newest_weights_measured_stands_first_with_its_curve(
    width: int,
) -> None:
    curve = [Rating(f"v{i}", 100.0 * i, 100.0 * i - 50, 100.0 * i + 50, 64) for i in range(10)]
    fitted = evaluations()[-1]
    assert isinstance(fitted, ev.RatingsFitted)
    table = ev.RatingsFitted((*fitted.ratings, *curve), 50_000)
    lines = frame(folded(run_started(), updated(1), *evaluations()[:-1], table), width)
    first = next(i for i, line in enumerate(lines) if line.startswith(" strength"))
    learning = next(i for i, line in enumerate(lines) if line.startswith(" learning"))
    assert learning == first + 4
    assert "Elo over random, 95% interval" in lines[first]
    bare, finishing, beside = lines[first + 1 : first + 4]
    assert bare.startswith(" v50            +312 +-32  \u2581")
    assert "\u2588" in bare[:70]
    assert finishing.startswith(" v50+mate1     above +610")
    assert beside.startswith(" greedy +1720  random+mate1 +360")
    assert ("random 98%  greedy 44%" in beside) == (width != 80)
    assert not any(line.startswith(" v40") for line in lines)
    assert "v50 against greedy: 43.8% (33.8% to 53.8%) in" in "\n".join(lines)


def test_the_board_says_whether_its_game_is_over() -> None:
    over = ev.UpdateFinished(fake_metrics(1), HIRATE, "7g7f", is_sample_over=True)
    for event, name in ((updated(1), "a game in play"), (over, "the last game")):
        assert any(name in line for line in frame(folded(run_started(), event), 80))


def test_a_frame_with_evaluation_keeps_its_shape_from_the_start() -> None:
    config = run_started().config
    evaluation = config.evaluation.model_copy(update={"interval_timesteps": 1000})
    on = dataclasses.replace(
        run_started(), config=config.model_copy(update={"evaluation": evaluation})
    )
    for width in (60, 80, 100, 140):
        before = frame(folded(on, updated(1)), width)
        assert any("no evaluation yet; the first after 1,000 " in line for line in before)
        assert len(before) == len(frame(folded(on, updated(1), *evaluations()), width))
        assert not any("no evaluation" in line for line in frame(folded(run_started()), width))


@pytest.mark.parametrize(
    ("rating", "shown"),
    [
        (Rating("v1", 12.0, -20.0, 44.0, 9), "+12 +-32"),
        (Rating("v1", 725.0, 229.0, None, 9), "above +229"),
        (Rating("v1", -725.0, None, -229.0, 9), "below -229"),
        (Rating("v1", None, None, None, 9), "-"),
        (None, "-"),
    ],
)
def test_an_elo_is_shown_as_far_as_it_is_known(rating: Rating | None, shown: str) -> None:
    assert elo_text(rating) == shown


def test_a_resumed_run_starts_at_its_timestep() -> None:
    state = folded(run_started(timestep=25_000))
    assert state.timestep == 25_000
    shown = "\n".join(frame(state, 100))
    assert "25.0%" in shown
    assert "resumed at 25,000" in shown
    assert "no new checkpoint yet" in shown
