"""A run's metrics as Prometheus scrapes them from Ray's agent."""

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking import prometheus as names
from keisei_ray.training.session import configured_subscribers
from tests.helpers.grafana import RAYS_OWN
from tests.helpers.run_events import evaluated, fake_metrics, game, run_started

pytestmark = pytest.mark.ray

Sample = tuple[str, frozenset[tuple[str, str]]]
OWN_LABELS = {
    "le",
    names.RESULT_LABEL,
    names.ROLE_LABEL,
    names.OPPONENT_LABEL,
    names.KIND_LABEL,
}
RUN = "a run, \u5c06\u68cb"
LABEL = "a run%2C %E5%B0%86%E6%A3%8B"
"""The run's name as Ray takes it."""
UPDATES = (
    fake_metrics(1, amp_skipped=3),
    fake_metrics(
        2, game_length_mean=None, amp_skipped=2, sps=512.5, update_time_s=0.02, wait_time_s=0.0
    ),
)
UNDEFINED = {"ray_keisei_game_length_mean_plies", "ray_keisei_amp_scale", "ray_keisei_elo_high"}
"""None in what was published last."""
DEADLINE_S = 60.0
AGENT_FORGETS_S = 6.0
"""Two reports of three seconds each, see tests/conftest.py."""


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def exported() -> str:
    """What Prometheus gets from the agent of the session's only node."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""  # The agent is not up yet.


def scrape(run: str) -> dict[Sample, float]:
    """The run's samples: name and own labels -> value."""
    text = exported()
    return {
        sample(s.name, **{k: v for k, v in s.labels.items() if k in OWN_LABELS}): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.labels.get(names.RUN_LABEL) == run
    }


@pytest.fixture(scope="module")
def scraped(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Sample, float]]:
    """All samples of a made-up run that was published to a run's own subscribers."""
    run_dir = tmp_path_factory.mktemp("runs") / RUN
    run_dir.mkdir()
    bus = ev.EventBus()
    config = Config.model_validate({"tracking": {"view": "none"}})
    for subscriber in configured_subscribers(config, run_dir, bus, None, Console(quiet=True)):
        bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
    told = [
        run_started(),
        *(ev.UpdateFinished(metrics) for metrics in UPDATES),
        *(ev.GameFinished(game(index), 1000) for index in range(3)),
        ev.ActorLost(1, 0, "boom", 2),
        ev.ActorLost(1, 1, "boom", 1),
        ev.ActorLost(None, 0, "boom", 2),
        ev.RolloutRejected(1, "damaged"),
        evaluated(2, "greedy", wins=14),
        evaluated(2, "v1+mate1", wins=20, finishing=True),
    ]
    for event in told:
        bus.publish(event)
    # After the table that is fitted from the two matches, so that the figures are known.
    bus.publish(ev.RatingsFitted((Rating("v2", 312.5, 250.0, None, 32),), 2000))
    deadline = time.monotonic() + DEADLINE_S
    samples: dict[Sample, float] = {}
    while {
        name for name, _ in samples
    } != names.series() - UNDEFINED and time.monotonic() < deadline:
        samples = scrape(LABEL)
        time.sleep(0.1)  # Between looks at another process, which reports once in a while.
    yield samples
    assert bus.close(5.0) == ()
    assert bus.failures == {}


def test_exactly_the_names_of_the_table_are_exported(scraped: dict[Sample, float]) -> None:
    assert {name for name, _ in scraped} == names.series() - UNDEFINED


def test_gauges_show_the_newest_update(scraped: dict[Sample, float]) -> None:
    for metric, name in names.GAUGES.items():
        assert scraped.get(sample(f"ray_{name}")) == UPDATES[-1][metric], name


@pytest.mark.usefixtures("scraped")
def test_a_gauge_stays_while_no_update_comes() -> None:
    end = time.monotonic() + AGENT_FORGETS_S + 1.0
    while time.monotonic() < end:
        assert scrape(LABEL)[sample("ray_keisei_timestep_plies")] == 2000
        time.sleep(0.1)


def test_counters_add_up_what_happened(scraped: dict[Sample, float]) -> None:
    assert scraped[sample("ray_keisei_timesteps_total")] == 2000
    assert scraped[sample("ray_keisei_amp_skipped_steps_total")] == 5
    assert scraped[sample("ray_keisei_collect_seconds_total")] == 12.0
    assert scraped[sample("ray_keisei_update_seconds_total")] == pytest.approx(2.02)
    assert scraped[sample("ray_keisei_publish_seconds_total")] == 2.0
    assert scraped[sample("ray_keisei_wait_seconds_total")] == 1.0
    assert scraped[sample("ray_keisei_games_total", result="draw")] == 3
    assert scraped[sample("ray_keisei_actor_restarts_total", role="self_play")] == 2
    assert scraped[sample("ray_keisei_actor_restarts_total", role="learner")] == 1
    assert scraped[sample("ray_keisei_rejected_rollouts_total")] == 1


def test_histograms_hold_one_observation_an_update(scraped: dict[Sample, float]) -> None:
    for metric, name in names.HISTOGRAMS.items():
        seconds = [float(metrics[metric] or 0.0) for metrics in UPDATES]
        assert scraped[sample(f"ray_{name}_count")] == 2
        for bound in names.BUCKETS_S:
            below = sum(value <= bound for value in seconds)
            assert scraped[sample(f"ray_{name}_bucket", le=str(bound))] == below, (name, bound)


def test_strength_is_exported_by_kind_and_opponent(scraped: dict[Sample, float]) -> None:
    score = f"ray_{names.SCORE}"
    assert scraped[sample(score, opponent="greedy", kind="bare")] == 14 / 32
    assert scraped[sample(score, opponent="earlier", kind="finishing")] == 20 / 32
    assert scraped[sample("ray_keisei_elo", kind="bare")] == 312.5
    assert scraped[sample("ray_keisei_elo_low", kind="bare")] == 250.0


@pytest.mark.usefixtures("cluster")
def test_ray_exports_what_the_board_shows_of_it() -> None:
    deadline = time.monotonic() + DEADLINE_S
    found: set[str] = set()
    while not found >= RAYS_OWN and time.monotonic() < deadline:
        found = set(re.findall(r"^(\w+)\{", exported(), re.MULTILINE))
        time.sleep(0.1)
    assert found >= RAYS_OWN


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("wanted", [True, False])
def test_the_setting_decides_whether_ray_exports_them(wanted: bool, tmp_path: Path) -> None:
    config = Config.model_validate({"tracking": {"view": "none", "ray_metrics": wanted}})
    built = configured_subscribers(config, tmp_path, ev.EventBus(), None, Console(quiet=True))
    for subscriber in built:
        if subscriber.close is not None:
            subscriber.close()
    assert ("ray metrics" in [subscriber.name for subscriber in built]) == wanted
