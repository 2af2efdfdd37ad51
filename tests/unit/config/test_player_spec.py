import pytest

from keisei_ray.config.player_spec import (
    DEFAULT_BYOYOMI_MS,
    EVALUATION_KINDS,
    MATCH_KINDS,
    POOL_KINDS,
    SYNTAX,
    EngineSpec,
    PlayerKind,
    PlayerSpec,
    SearchSpec,
    checkpoint_text,
    parse_player,
)
from keisei_ray.errors import PlayerError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("random", PlayerSpec("random")),
        ("greedy", PlayerSpec("greedy")),
        ("greedy2", PlayerSpec("greedy2")),
        ("greedy?random=0.5", PlayerSpec("greedy", random_share=0.5)),
        ("greedy2?random=0", PlayerSpec("greedy2")),
        ("random+mate1", PlayerSpec("random+mate1")),
        ("snapshots", PlayerSpec("snapshots")),
        ("checkpoint:runs/x", PlayerSpec("checkpoint", "runs/x")),
        (
            "checkpoint:s3://b/x+mate1",
            PlayerSpec("checkpoint", "s3://b/x", finishes_mates=True),
        ),
        ("usi:a -b", PlayerSpec("usi", engine=EngineSpec.parse("usi:a -b"))),
    ],
)
def test_each_kind_of_player_is_read(text: str, spec: PlayerSpec) -> None:
    assert parse_player(text, EVALUATION_KINDS) == spec


@pytest.mark.parametrize(
    ("query", "nodes", "byoyomi_ms", "options"),
    [
        ("", None, DEFAULT_BYOYOMI_MS, ()),
        ("?byoyomi-ms=250&timeout-s=2.5&processes=3", None, 250, ()),
        ("?nodes=7&Skill Level=-20", 7, None, (("Skill Level", "-20"),)),
        ("?nodes=7&A%26B=50%25", 7, None, (("A&B", "50%"),)),
    ],
)
def test_command_limits_and_options_of_an_engine_are_read(
    query: str, nodes: int | None, byoyomi_ms: int | None, options: tuple[tuple[str, str], ...]
) -> None:
    spec = EngineSpec.parse(f"usi:'my engine' -x '1 2'{query}")
    assert spec.command == ("my engine", "-x", "1 2")
    assert (spec.nodes, spec.byoyomi_ms, spec.options) == (nodes, byoyomi_ms, options)
    is_limited = "processes" in query
    assert (spec.timeout_s, spec.processes) == ((2.5, 3) if is_limited else (30.0, None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rnadom", "Did you mean 'random'"),
        ("Greedy", "Did you mean 'greedy'"),
        ("greedy?random=2", "random = '2', expected a number from 0.0 to 1.0. Expected greedy or"),
        ("greedy?random=half", "random = 'half', expected a number"),
        ("greedy2?nodes=2", "the query is 'nodes=2'. Expected greedy2 or greedy2?random=SHARE"),
        ("greedy?", "the query is ''"),
        ("random?random=0.5", "unknown player 'random?random=0.5'. Did you mean 'random'"),
        ("random:", "unknown player 'random:'"),
        ("checkpoint", "Did you mean 'checkpoint:PATH'"),
        ("checkpoint:", "Did you mean 'checkpoint:PATH'"),
        ("checkpoint:a?simulations=0", "simulations = '0', expected a number from 1"),
        ("checkpoint:a?simulations=1_0", "simulations = '1_0', expected a number from 1"),
        ("checkpoint:a?simulations=٣٠", "simulations = '٣٠', expected a number from 1"),
        ("checkpoint:a?seconds=1_0.5", "seconds = '1_0.5', expected a number"),
        ("checkpoint:a?seconds=soon", "seconds = 'soon', expected a number"),
        ("checkpoint:a?simulations=1&draw-value=2", "draw-value = '2', expected a number from -1"),
        ("checkpoint:a?simulations=1&draw-value=nan", "draw-value = 'nan', expected a number"),
        ("checkpoint:a?draw-value=0.1", "no limit"),
        (
            "checkpoint:a?seconds=1&root=gumbel",
            "root=gumbel needs simulations. Expected checkpoint",
        ),
        ("checkpoint:a?simulations=1&root=ucb", "root = 'ucb'. Expected checkpoint:PATH"),
        ("checkpoint:a?sims=5", "unknown key 'sims'. Expected checkpoint:PATH"),
        ("checkpoint:a+mate1?seconds=1", "a search finds mates in one without +mate1"),
        ("usi", "Did you mean 'usi:COMMAND"),
        ("", "unknown player ''"),
        ("a\nb", r"unknown player 'a\nb'"),
        ("usi:", "no command"),
        ("usi:?nodes=1", "no command"),
        ("usi:'a", "cannot be split"),
        ("usi:a\tb", "control characters"),
        ("usi:a?nodes", "'nodes' is not KEY=VALUE"),
        ("usi:a?nodes=1&nodes=2", "'nodes=2' is given twice"),
        ("usi:a?nodes=0", "nodes = '0', expected a number from 1"),
        ("usi:a?nodes=many", "nodes = 'many'"),
        ("usi:a?timeout-s=nan", "timeout-s = 'nan'"),
        ("usi:a?processes=1000", "processes = '1000'"),
        ("usi:a?nodes=1&byoyomi-ms=1", "both nodes and byoyomi-ms"),
    ],
)
def test_a_text_that_is_no_player_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(PlayerError) as error:
        parse_player(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("snapshots", MATCH_KINDS), ("checkpoint:runs/x", POOL_KINDS), ("snapshots", POOL_KINDS)],
)
def test_a_kind_that_is_not_allowed_is_refused_with_those_that_are(
    text: str, kinds: tuple[PlayerKind, ...]
) -> None:
    with pytest.raises(PlayerError) as error:
        parse_player(text, kinds)
    assert str(error.value).endswith(f"Expected one of {', '.join(SYNTAX[k] for k in kinds)}.")


def test_the_text_of_a_path_is_read_as_that_path() -> None:
    assert parse_player(checkpoint_text("s3://b/x")).path == "s3://b/x"


@pytest.mark.parametrize(
    ("text", "path", "search", "suffix"),
    [
        ("checkpoint:r?simulations=200", "r", SearchSpec(200, None), "+200sims"),
        ("checkpoint:r?seconds=.5", "r", SearchSpec(None, 0.5), "+0.5s"),
        ("checkpoint:r?seconds=2&simulations=9", "r", SearchSpec(9, 2.0), "+9sims+2s"),
        ("checkpoint:s3://b/r?simulations=1", "s3://b/r", SearchSpec(1, None), "+1sims"),
        ("checkpoint:r?root=puct&simulations=7", "r", SearchSpec(7, None), "+7sims"),
        (
            "checkpoint:r?simulations=7&root=gumbel",
            "r",
            SearchSpec(7, None, "gumbel"),
            "+7sims+gumbel",
        ),
        (
            "checkpoint:r?draw-value=-0.3&simulations=7",
            "r",
            SearchSpec(7, None, draw_value=-0.3),
            "+7sims+draw-0.3",
        ),
    ],
)
def test_a_search_is_read_off_the_end_of_a_checkpoint(
    text: str, path: str, search: SearchSpec, suffix: str
) -> None:
    assert parse_player(text) == PlayerSpec("checkpoint", path, search=search)
    assert search.suffix == suffix


def test_a_question_mark_in_a_path_is_part_of_it() -> None:
    assert parse_player("checkpoint:why?") == PlayerSpec("checkpoint", "why?")


@pytest.mark.parametrize("text", ["x", "usi:engine?nodes=", "greedy?random=", "checkpoint:a?root="])
def test_a_long_text_is_named_without_its_middle(text: str) -> None:
    with pytest.raises(PlayerError) as error:
        parse_player(text + "9" * 5000)
    assert len(str(error.value)) < 1000
