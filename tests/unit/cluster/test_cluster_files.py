"""The files of `cluster/`, as the programs that read them would take them; nothing is started."""

import contextlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import boto3
import click
import pytest
import yaml
from botocore.validate import ParamValidator
from jsonschema import Draft4Validator
from ray._private.runtime_env.packaging import create_package
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.autoscaler._private.providers import _NODE_PROVIDERS
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

from keisei_ray import cli
from keisei_ray.arguments import parse_arguments
from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.memory import estimate_memory_bytes
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.training import run_start
from tests.helpers.copied_commands import (
    CLUSTER,
    CLUSTERS_PAGE,
    PAGES,
    ROOT,
    copied_commands,
    ray_commands,
    run_arguments,
)

LAUNCHERS = ["on-premises.yaml", "aws.yaml", "gcp.yaml"]
BIN = Path(sys.executable).parent
MAX_UPLOAD_BYTES = 4 << 20
COMMANDS = copied_commands()
RAY_COMMANDS = ray_commands()


def load(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return tree


def lint(program: str, *arguments: str, text: str | None = None) -> str:
    """What a linter installed beside this Python has to say."""
    done = subprocess.run(
        [BIN / program, *arguments], input=text, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of Google's discovery format as JSON schema that refuses unknown keys."""
    changed = {key: value for key, value in schema.items() if key in ("type", "enum", "items")}
    if schema.get("type") == "integer" or schema.get("format") == "int64":
        changed["type"] = ["integer", "string"]
    if "$ref" in schema:
        changed["$ref"] = f"#/schemas/{schema['$ref']}"
    if "items" in schema:
        changed["items"] = strict(schema["items"])
    if "properties" in schema:
        changed["properties"] = {name: strict(p) for name, p in schema["properties"].items()}
        changed["additionalProperties"] = False
    return changed


# ---- the cluster launcher ----


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_up_takes_the_launcher_file(name: str) -> None:
    prepared = prepare_config(load(name))
    validate_config(prepared)
    new_provider: Any = _NODE_PROVIDERS[prepared["provider"]["type"]]
    provider = new_provider(prepared["provider"])
    assert callable(provider.bootstrap_config)
    head = prepared["head_node_type"]
    others = [kind for kind in prepared["available_node_types"] if kind != head] or [head]
    assert sum(prepared["available_node_types"][kind]["min_workers"] for kind in others) == 3


def test_the_machines_are_valid_requests_to_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("ec2", region_name="us-west-2")
    shape = client.meta.service_model.operation_model("RunInstances").input_shape
    for kind in load("aws.yaml")["available_node_types"].values():
        request = kind["node_config"] | {"MinCount": 1, "MaxCount": 1}
        report = ParamValidator().validate(request, shape)
        assert report.generate_report() == ""


def test_the_machines_are_valid_requests_to_google() -> None:
    document = files("googleapiclient") / "discovery_cache/documents/compute.v1.json"
    schemas = json.loads(document.read_text(encoding="utf-8"))["schemas"]
    names = {name: strict(schema) for name, schema in schemas.items()}
    validator = Draft4Validator({"$ref": "#/schemas/Instance", "schemas": names})
    for kind in load("gcp.yaml")["available_node_types"].values():
        assert [error.message for error in validator.iter_errors(kind["node_config"])] == []


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_only_machines_that_play_may_be_taken_back(name: str) -> None:
    tree = load(name)
    for kind, machine in tree["available_node_types"].items():
        node = machine["node_config"]
        may_go = "InstanceMarketOptions" in node or node.get("scheduling", {}).get("preemptible")
        assert bool(may_go) == (kind != tree["head_node_type"])
        assert ("GPU" in machine["resources"]) == (kind == tree["head_node_type"])


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_the_machines_have_the_cpus_that_the_file_says_it_fits(name: str) -> None:
    said = re.search(r"--num-actors (\d+): (\d+) vCPUs", (CLUSTER / name).read_text())
    assert said is not None
    actors, cpus = int(said[1]), int(said[2])
    kinds = load(name)["available_node_types"].values()
    assert sum(k["resources"]["CPU"] * max(1, k["min_workers"]) for k in kinds) == cpus
    assert actors + 2 <= cpus  # The learner and the driver.


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_machine_of_a_launcher_gets_the_token_and_asks_for_it(name: str) -> None:
    tree = load(name)
    assert tree["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any(
        command.endswith("echo 'export RAY_AUTH_MODE=token' >> ~/.bashrc")
        for command in tree["initialization_commands"]
    )
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in tree[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert all("dashboard-host" not in command for command in starts)


def test_the_head_of_own_hosts_has_the_autoscaler_that_starts_the_others() -> None:
    """The second one, which `ray up` asks for by an export before the command, never does."""
    (start,) = (c for c in load("on-premises.yaml")["head_start_ray_commands"] if "--head" in c)
    assert "RAY_enable_autoscaler_v2=0" in start.partition("ray start")[0]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_sends_what_the_installation_needs(name: str) -> None:
    tree = load(name)
    sent = {Path(local) for local in tree["file_mounts"].values() if not local.startswith("~")}
    assert all((ROOT / path).exists() for path in sent)
    assert {Path(p) for p in ("keisei_ray", "configs", "run.py", "pyproject.toml")} <= sent
    assert {Path(p) for p in ("constraints.txt", "README.md", "LICENSE")} <= sent
    for key in ("head_setup_commands", "worker_setup_commands"):
        (install,) = tree[key]
        assert "pip install -q -c ~/keisei-ray/constraints.txt" in install


def test_the_extras_for_the_clouds_are_there_and_pinned() -> None:
    wanted = {"aws": "boto3", "gcp": "google-api-python-client"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for extra, package in wanted.items():
        assert f'{extra} = ["{package}' in project
        assert f"\n{package}==" in pinned
        assert f'"$HOME/keisei-ray[{extra}]"' in (CLUSTER / f"{extra}.yaml").read_text()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_commands_of_a_launcher_are_good_shell(name: str) -> None:
    commands = [c for key, value in load(name).items() if key.endswith("commands") for c in value]
    assert len(commands) >= 8
    # Ray sets the head's address. SC2016: .bashrc is to expand $HOME, not the command that adds it.
    script = "\n".join(["RAY_HEAD_IP=192.0.2.1", *commands])
    assert lint("shellcheck", "--shell=bash", "--exclude=SC2016", "-", text=script) == ""


# ---- commands, scripts, image ----


@pytest.mark.parametrize("shown", COMMANDS)
def test_a_command_that_can_be_copied_is_one_that_run_py_takes(
    shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a checkout with one run, so that there is something to resume."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "runs" / "NAME").mkdir(parents=True)
    (tmp_path / "runs" / "NAME" / "config.json").write_text(Config().model_dump_json())
    monkeypatch.chdir(tmp_path)
    # Of a run in a bucket, which nobody asks here.
    monkeypatch.setattr(run_start, "saved_config", lambda *_: contextlib.nullcontext(None))
    options = parse_arguments(COMMANDS[shown])
    if options.command == "train":
        cli._resolve_training(options)
    elif options.command in ("bench", "config"):
        cli._resolve(options)


@pytest.mark.parametrize("shown", RAY_COMMANDS)
def test_a_ray_command_that_can_be_copied_is_one_that_ray_takes(shown: str) -> None:
    words = RAY_COMMANDS[shown]
    command: click.Command = ray_cli
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(name, words)  # Parses; runs nothing.


def test_the_commands_are_found() -> None:
    assert len(RAY_COMMANDS) >= 20
    places = [shown.partition(":")[0] for shown in COMMANDS]
    assert len(places) >= 20
    assert {"README.md", "clusters.md", "slurm.sh", "rayjob.yaml", "Dockerfile"} <= set(places)
    line = "ray exec x.yaml 'cd k && python run.py --seed 3 > log'"
    assert run_arguments("sh train.sh runs/a --seed 3") == ["--run-dir", "runs/a", "--seed", "3"]
    assert run_arguments(line.replace(" > log", " && ls")) == ["--seed", "3"]


def test_every_preset_that_is_named_exists() -> None:
    files = [p for p in CLUSTER.rglob("*") if p.suffix != ".pyc" and p.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in (*files, *PAGES)]
    named = {name for text in texts for name in re.findall(r"configs/[\w-]+\.yaml", text)}
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_table_of_what_to_rent_tells_the_memory_that_the_presets_need() -> None:
    """Rows of `| preset ... | actors | memory of the run |`; several presets give a range."""
    rows = re.findall(
        r"^\| (`.*?) \| (\d+) \| ([\d.]+)(?: to ([\d.]+))? GiB \|",
        CLUSTERS_PAGE.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    told = set()
    for presets, actors, low, high in rows:
        names = re.findall(r"`(\w[\w-]*)`", presets)
        told |= set(names)
        for name in names:
            config = resolve_config(
                str(ROOT / f"configs/{name}.yaml"), {}, [f"self_play.num_actors={actors}"], {}
            )
            if name == "gpu":
                config = resolve_auto(config, 8, 1)
            needed = round(estimate_memory_bytes(config, int(actors)) / 2**30, 1)
            assert float(low) - 0.05 <= needed <= float(high or low) + 0.05
    assert told == {path.stem for path in (ROOT / "configs").glob("*.yaml")}


@pytest.mark.parametrize("name", ["slurm.sh", "train.sh"])
def test_the_scripts_are_good_shell(name: str) -> None:
    assert lint("shellcheck", str(CLUSTER / name)) == ""


def test_the_image_is_built_by_the_rules() -> None:
    assert lint("hadolint", "--no-color", str(CLUSTER / "Dockerfile")) == ""


def test_the_image_runs_as_nobody_special_and_finds_what_it_copies() -> None:
    lines = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]
    sources = [
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert len(sources) >= 9
    assert [s for s in sources if f"!{s}" not in kept or not (ROOT / s).exists()] == []
    assert "*" in kept


def test_the_image_has_every_extra_that_a_run_may_use() -> None:
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ARG EXTRAS=(.*)$", text, flags=re.MULTILINE)
    assert found is not None
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    assert set(found[1].split(",")) == extras - {"aws", "gcp", "docs", "dev"}


def test_the_tasks_of_skypilot_join_each_other_and_run_what_run_py_takes() -> None:
    """tests/platform/test_skypilot.py has SkyPilot's own parser read the file."""
    group, learner, players = yaml.safe_load_all((CLUSTER / "skypilot.yaml").read_text())
    assert group["execution"] == "parallel"
    assert group["primary_tasks"] == [learner["name"]]
    (line,) = (line for line in learner["run"].splitlines() if "train.sh" in line)
    arguments = run_arguments(line)
    assert arguments is not None
    assert arguments[:2] == ["--run-dir", "$RUN"]
    cli._resolve_training(parse_arguments(["--run-dir", "runs/x", *arguments[2:]]))
    assert "ray start --head --port=6379" in learner["run"]
    address = f'"{learner["name"]}-0.$SKYPILOT_JOBGROUP_NAME:6379"'
    assert f"ray start --address={address}" in players["run"]
    for task in (learner, players):
        assert task["secrets"] == {"RAY_AUTH_TOKEN": None}
        assert "RAY_AUTH_MODE=token" in task["run"]
        assert "-c constraints.txt" in task["setup"]
        assert lint("shellcheck", "--shell=bash", "-", text=task["setup"] + task["run"]) == ""
    assert "accelerators" not in players["resources"]
    assert players["resources"]["use_spot"]


def test_a_submitted_job_uploads_the_program_and_little_else(tmp_path: Path) -> None:
    """With the excludes and the packing of `ray job submit --working-dir .`."""
    given: list[str] = []

    def upload(_: str, excludes: list[str] | None, __: bool = False) -> None:
        given.extend(excludes or ())

    upload_working_dir_if_needed(
        {"working_dir": str(ROOT)}, include_gitignore=True, upload_fn=upload
    )
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=given)
    names = set(ZipFile(package).namelist())
    assert {"run.py", "keisei_ray/cli.py", "configs/gpu.yaml", "cluster/train.sh"} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops.isdisjoint({".git", ".venv", "tests", "benchmarks", "runs", ".ci"})
    assert package.stat().st_size < MAX_UPLOAD_BYTES
