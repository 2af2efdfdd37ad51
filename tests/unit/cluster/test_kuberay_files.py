"""The manifests of `cluster/kuberay/`: valid for KubeRay, and large enough for what they run."""

import gzip
import json
import re
import shlex
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator

from keisei_ray.config.autosize import actor_cpus, resolve_auto
from keisei_ray.config.memory import estimate_memory_bytes
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.cluster_fit import check_fits
from tests.helpers.copied_commands import CLUSTER, CLUSTERS_PAGE, ROOT, run_arguments

GOLDEN = ROOT / "tests" / "golden" / "kuberay"
MANIFESTS = {"raycluster.yaml": "RayCluster", "rayjob.yaml": "RayJob"}
OBJECT_STORE_SHARE = 0.3
"""What Ray takes of a pod's memory for its object store."""
GIB = 2**30


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema of Kubernetes as JSON schema, in which unknown fields are refused.

    As the API server does it with strict field validation: an object whose fields are listed takes
    no others, unless it says x-kubernetes-preserve-unknown-fields or is a map. CEL rules
    (x-kubernetes-validations) are not evaluated.
    """
    changed = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        changed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in schema:
        changed["properties"] = {name: strict(p) for name, p in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            changed.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            changed[key] = strict(schema[key])
    if schema.get("nullable") and "type" in schema:
        changed["type"] = [schema["type"], "null"]
    return changed


def schema_of(kind: str, version: str) -> dict[str, Any]:
    with gzip.open(GOLDEN / f"ray.io_{kind.lower()}s.json.gz") as file:
        return strict(json.load(file)["versions"][version])


def documents(name: str) -> list[dict[str, Any]]:
    text = (CLUSTER / "kuberay" / name).read_text(encoding="utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


def resource(name: str) -> dict[str, Any]:
    """The RayCluster or RayJob of a file."""
    (found,) = (d for d in documents(name) if d["kind"] == MANIFESTS[name])
    return found


def cluster_spec(name: str) -> dict[str, Any]:
    spec = resource(name)["spec"]
    inner: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return inner


def problems(manifest: dict[str, Any]) -> list[str]:
    version = manifest["apiVersion"].removeprefix("ray.io/")
    validator = Draft4Validator(schema_of(manifest["kind"], version))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def pods(name: str) -> list[tuple[dict[str, Any], int]]:
    """Every pod template's spec and how many pods there are when a run starts."""
    spec = cluster_spec(name)
    head = [(spec["headGroupSpec"]["template"]["spec"], 1)]
    groups = spec["workerGroupSpecs"]
    return head + [(group["template"]["spec"], group["replicas"]) for group in groups]


def quantity(text: str) -> float:
    """Of memory in bytes, of CPUs in CPUs."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi|)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "Mi": 2**20, "Gi": GIB, "": 1}[unit]


def offered(name: str) -> Cluster:
    """What Ray would say of the cluster: no CPUs on the head, see `num-cpus`."""
    spec = cluster_spec(name)
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    requests = [(pod["containers"][0]["resources"], count) for pod, count in pods(name)]
    return Cluster(
        address="192.0.2.1:6379",
        num_nodes=sum(count for _, count in requests),
        num_cpus=int(sum(quantity(r["requests"]["cpu"]) * n for r, n in requests[1:])),
        num_gpus=sum(int(r["limits"].get("nvidia.com/gpu", 0)) * n for r, n in requests),
        memory_bytes=int(sum(quantity(r["requests"]["memory"]) * n for r, n in requests)),
        dashboard_url="",
    )


def config_of(name: str) -> Config:
    """The settings of the run: a RayJob's own, else of the preset that the first line names."""
    if name == "rayjob.yaml":
        arguments = run_arguments(resource(name)["spec"]["entrypoint"])
        assert arguments is not None
        pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
        given, overrides = dict(pairs), [value for flag, value in pairs if flag == "--set"]
        preset, flags = given["--config"], {"self_play.num_actors": int(given["--num-actors"])}
    else:
        first = (CLUSTER / "kuberay" / name).read_text(encoding="utf-8").splitlines()[0]
        preset, flags, overrides = re.findall(r"configs/\w+\.yaml", first)[0], {}, []
    return resolve_config(str(ROOT / preset), {}, overrides, flags)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_valid_for_kuberay(name: str) -> None:
    assert problems(resource(name)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.headGroupSpec.template.spec.containers.0.imagee", "x"),
        ("spec.headGroupSpec.template.spec.containers.0.resources.limits.cpu", [1]),
        ("spec.workerGroupSpecs.0.replica", 1),
        ("spec.authOptions.mode", "tokens"),
        ("spec.enableInTreeAutoscaling", "yes"),
        ("spec.workerGroupSpecs.1.maxReplicas", None),
    ],
)
def test_the_check_refuses_what_the_api_server_would(path: str, value: object) -> None:
    manifest: Any = resource("raycluster.yaml")
    *way, last = path.split(".")
    place = manifest
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    place[last] = value
    assert len(problems(manifest)) == 1


def test_the_job_is_valid_as_the_comment_about_kueue_changes_it() -> None:
    text = (CLUSTER / "kuberay" / "rayjob.yaml").read_text(encoding="utf-8")
    text = text.replace("  # labels:", "  labels:")
    text = text.replace("enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false")
    (job,) = (d for d in yaml.safe_load_all(text) if d["kind"] == "RayJob")
    assert problems(job) == []
    assert list(job["metadata"]["labels"]) == ["kueue.x-k8s.io/queue-name"]
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    # Kueue refuses a job whose cluster stays.
    assert job["spec"]["shutdownAfterJobFinishes"] is True


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_pods_hold_the_run(name: str) -> None:
    cluster = offered(name)
    config = resolve_auto(config_of(name), cluster.num_cpus, cluster.num_gpus)
    check_fits(config, cluster)
    assert config.learner.device == "cuda"
    assert cluster.num_gpus == 1
    # The presets say so: an actor has a CPU for itself.
    assert actor_cpus(config, cluster.num_cpus) == 1.0


@pytest.mark.parametrize("name", MANIFESTS)
def test_each_pod_holds_its_part_of_the_run(name: str) -> None:
    config = config_of(name)
    alone = config.model_copy(
        update={"self_play": config.self_play.model_copy(update={"num_actors": 1})}
    )
    num_actors = config.self_play.num_actors
    assert num_actors != "auto"
    actor = (estimate_memory_bytes(config, num_actors) - estimate_memory_bytes(alone, 1)) / (
        num_actors - 1
    )
    learner, players = (pod["containers"][0]["resources"]["requests"] for pod, _ in pods(name)[1:])
    free = 1 - OBJECT_STORE_SHARE
    assert quantity(players["memory"]) * free >= quantity(players["cpu"]) * actor
    # All that does not grow with the actors: the learner, its rows, and what waits for it.
    needed = estimate_memory_bytes(alone, 1) + (quantity(learner["cpu"]) - 1) * actor
    assert quantity(learner["memory"]) * free >= needed


@pytest.mark.parametrize("name", MANIFESTS)
def test_players_come_and_go_and_the_learner_stays(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["enableInTreeAutoscaling"] is True
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    learner, players = groups["learner"], groups["players"]
    assert (learner["minReplicas"], learner["replicas"], learner["maxReplicas"]) == (1, 1, 1)
    assert players["minReplicas"] == 0
    assert players["replicas"] == players["maxReplicas"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_token_comes_from_a_secret_and_is_in_no_file(name: str) -> None:
    assert cluster_spec(name)["authOptions"] == {"mode": "token", "secretName": "keisei-ray-token"}
    assert [d["kind"] for d in documents(name)] == ["PersistentVolumeClaim", MANIFESTS[name]]
    assert "create secret generic keisei-ray-token" in CLUSTERS_PAGE.read_text()


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_runs_lie_on_a_volume_of_the_head(name: str) -> None:
    claim = documents(name)[0]
    head, _ = pods(name)[0]
    (volume,) = head["volumes"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/runs")
    # The image's user may write there.
    assert head["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}


def test_the_job_starts_a_script_that_is_in_the_image() -> None:
    words = shlex.split(resource("rayjob.yaml")["spec"]["entrypoint"])
    assert words[:4] == ["exec", "sh", "/app/cluster/train.sh", "/runs/first"]
    image = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert "WORKDIR /app\n" in image
    assert re.search(r"^COPY cluster/train\.sh .* cluster/$", image, flags=re.MULTILINE)
    assert (CLUSTER / "train.sh").is_file()
