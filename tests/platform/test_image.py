"""The image's environment, made by the steps of `cluster/Dockerfile`, and a run in it.

Without docker, so not shown are the base image, the packages of Debian, and CUDA.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.copied_commands import CLUSTER
from tests.helpers.program import ROOT, environment, json_records

pytestmark = [
    pytest.mark.platform,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.getuid() != 0, reason="takes the place of another user: needs root"),
]

USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
DEBUG = ["--config", "configs/debug.yaml", "--run-dir", "runs/first", "--total-timesteps", "512"]


class Image:
    """The image's files below a directory: its environment, /app and a home of user 1000."""

    def __init__(self, root: Path) -> None:
        self.root, self.venv, self.app = root, root / "venv", root / "app"
        build, final = self._stages()
        self._arguments: dict[str, str] = {}
        (root / "src").mkdir()
        for step, words in build:
            self._take(step, words, root / "src")
        self.app.mkdir()
        for step, words in final:
            if step == "COPY" and "--from" not in words:
                self._copy(words, self.app)
        for name in ("app/runs", "home"):
            (root / name).mkdir()
            os.chown(root / name, 1000, 1000)

    @staticmethod
    def _stages() -> list[list[tuple[str, str]]]:
        """The steps of each stage, in order: instruction and arguments."""
        text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
        text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
        stages: list[list[tuple[str, str]]] = []
        for line in filter(None, text.splitlines()):
            step, _, words = line.partition(" ")
            if step == "FROM":
                stages.append([])
            elif stages:
                stages[-1].append((step, words))
        return stages

    def _take(self, step: str, words: str, place: Path) -> None:
        if step == "ARG":
            name, _, value = words.partition("=")
            self._arguments[name] = value
        elif step == "COPY":
            self._copy(words, place)
        elif step == "RUN":
            command = words.replace("/opt/venv", str(self.venv))
            path = f"{self.venv}/bin:{os.environ['PATH']}"
            env = environment(PATH=path, PIP_NO_CACHE_DIR="1", **self._arguments)
            subprocess.run(["sh", "-c", command], cwd=place, env=env, check=True)

    @staticmethod
    def _copy(words: str, place: Path) -> None:
        *sources, target = shlex.split(words)
        for source in sources:
            to = place / target / Path(source).name if target.endswith("/") else place / target
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, to, ignore=ignore, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / source, to)

    def run(self, *words: str) -> str:
        """What a program of the environment prints in /app, as user 1000; it must succeed."""
        env = environment(
            PATH=f"{self.venv}/bin:/usr/bin:/bin", HOME=str(self.root / "home"), TERM="dumb"
        )
        env.pop("PYTHONPATH", None)
        done = subprocess.run(
            [*USER, *words],
            cwd=self.app,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    root = Path(tempfile.mkdtemp(prefix="image"))
    root.chmod(0o755)
    try:
        yield Image(root)
    finally:
        shutil.rmtree(root)


def test_a_run_trains_as_the_images_user_with_every_tracker(image: Image) -> None:
    trackers = ["--set", "tracking.wandb=offline", "--set", "tracking.tensorboard=true"]
    image.run("python", "run.py", *DEBUG, *trackers)
    run_dir = image.app / "runs" / "first"
    assert json_records(run_dir / "metrics.jsonl")[-1]["timestep"] >= 512
    assert list(run_dir.glob("wandb/*/*.wandb"))
    assert list(run_dir.glob("tensorboard/*"))
    said = image.run(
        "python", "run.py", "evaluate", "--checkpoint", "runs/first", "--opponent", "random",
        "--games", "2",
    )  # fmt: skip
    assert "random" in said
    image.run(
        "python",
        "run.py",
        "export",
        "--checkpoint",
        "runs/first",
        "--format",
        "onnx",
        "--output",
        "runs/x.onnx",
    )


def test_buckets_and_sweeps_have_what_they_need(image: Image) -> None:
    image.run("python", "-c", "import gcsfs, optuna, s3fs; from ray import tune")
    said = image.run("python", "-m", "pip", "list", "--format=freeze")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    others = [
        line
        for line in said.lower().splitlines()
        if "==" in line
        and not line.startswith(("pip=", "setuptools="))
        and line.replace("-", "_") not in pinned.replace("-", "_")
    ]
    assert others == []  # All versions are those of constraints.txt.
