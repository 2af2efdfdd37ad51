"""A real Prometheus scrapes a run on two nodes, and answers every query of the Grafana board."""

import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.helpers.copied_commands import CLUSTERS_PAGE
from tests.helpers.grafana import RAYS_OWN_WITH_GPU, expressions, queries
from tests.helpers.machines import HOME, Machine, has_namespaces, machines
from tests.helpers.program import DEBUG_CONFIG, ROOT, json_records
from tests.helpers.waiting import wait_until

pytestmark = [
    pytest.mark.platform,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed"),
    pytest.mark.skipif(not has_namespaces(), reason="needs root and Linux namespaces"),
]

PATIENCE_S = 400
NOT_IN_A_HEALTHY_RUN = {"ray_keisei_actor_restarts_total": "nothing was started again"}
"""Series that are empty before something goes wrong -> reason."""
RUN = [
    "--config", DEBUG_CONFIG, "--run-dir", f"{HOME}/first", "--num-actors", "2",
    "--total-timesteps", "100000000", "--set", "cluster.address=auto",
    "--set", "evaluation.interval_timesteps=256", "--set", "evaluation.max_cpu_share=1",
    "--set", "evaluation.opponents=[random, greedy]", "--set", "evaluation.num_games=8",
]  # fmt: skip
ASK = """
import json, sys, urllib.request
for path in sys.argv[1:]:
    with urllib.request.urlopen("http://127.0.0.1:9090/api/v1/" + path) as answer:
        print(json.dumps(json.load(answer)["data"]))
"""
"""Asks Prometheus for each path that it is given, and prints the answers, one a line."""


def prometheus_yml() -> str:
    """The configuration that docs/clusters.md shows."""
    found = re.search(
        r"^( *)# prometheus\.yml\n(.*?)^\1```", CLUSTERS_PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return textwrap.dedent(found[2])


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Machine]]:
    """A head and a worker with Ray, a run on both, and Prometheus on the head."""
    token = tmp_path / "token"
    token.write_text("5" * 64)
    token.chmod(0o600)
    (tmp_path / "prometheus.yml").write_text(prometheus_yml())
    environ = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2"]
    with machines(["head", "worker"], tmp_path) as booted:
        head, worker = booted
        logs = {name: tmp_path / f"{name}.log" for name in ("head", "worker", "run", "prometheus")}
        head.start(*ray, "--head", "--num-gpus=0", log=logs["head"], env=environ)
        wait_until(lambda: "ray start --address" in logs["head"].read_text(), PATIENCE_S)
        worker.start(*ray, f"--address={head.address}:6379", log=logs["worker"], env=environ)
        wait = [sys.executable, str(ROOT / "cluster/wait_for_cpus.py"), "4"]
        joined = head.run(*wait, timeout_s=PATIENCE_S, env=environ)
        assert joined.returncode == 0, logs["worker"].read_text()
        head.start(sys.executable, str(ROOT / "run.py"), *RUN, log=logs["run"], env=environ)
        head.start(
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            "--storage.tsdb.path=/tmp/prometheus",
            "--web.listen-address=127.0.0.1:9090",
            log=logs["prometheus"],
        )
        yield booted


def answers(machine: Machine, *paths: str) -> list[Any]:
    """Returns the answer of Prometheus to a GET request below /api/v1/."""
    done = machine.run(sys.executable, "-c", ASK, *paths)
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_empty(answer: Any) -> bool:
    """Whether a query's answer has no number: no series, or NaN in each."""
    return all(series["value"][1] == "NaN" for series in answer["result"])


def wait_for_data(machine: Machine, besides: set[str]) -> None:
    """Blocks until every query of the board has data, but those with one of these names."""
    values = {"run": "first", "session": ".+", "window": "5m"}
    asked = [re.sub(r"\$(\w+)", lambda m: values[m[1]], text) for text in expressions()]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = answers(machine, *(f"query?query={quote(text)}" for text in asked))
        empty = {text for text, answer in zip(asked, found, strict=True) if is_empty(answer)}
        excused = {
            text
            for text in asked
            if any(name in text for name in besides) and "or vector(0)" not in text
        }
        if empty == excused:
            return
        assert time.monotonic() < deadline, empty ^ excused
        time.sleep(2)  # Prometheus scrapes every 10 s.


def test_every_query_of_the_board_has_an_answer(nodes: list[Machine], tmp_path: Path) -> None:
    head, worker = nodes
    records = Path(f"/proc/{head.pid}/root{HOME}/first/metrics.jsonl")
    log = tmp_path / "run.log"
    wait_until(lambda: len(json_records(records)) >= 2, PATIENCE_S)
    wait_for_data(head, besides=RAYS_OWN_WITH_GPU | set(NOT_IN_A_HEALTHY_RUN))
    killed = worker.run("pkill", "--signal=KILL", "-f", "ray::SelfPlayShell")
    assert killed.returncode == 0, log.read_text()
    wait_for_data(head, besides=RAYS_OWN_WITH_GPU)

    for query in queries():
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()  # type: ignore[union-attr]
        series = series.replace("$run", "first")
        (values,) = answers(head, f"label/{label}/values?match[]={quote(series)}")
        assert values, query
    (targets,) = answers(head, "targets?state=active")
    instances = {t["labels"]["instance"].split(":")[0] for t in targets["activeTargets"]}
    assert {head.address, worker.address} <= instances
