"""The environment of the image, made by the steps of `cluster/Dockerfile`; the README runs in it.

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

from tests.helpers.copied_commands import CLUSTER, copied_commands
from tests.helpers.program import ROOT, environment, json_records

pytestmark = [
    pytest.mark.platform,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.getuid() != 0, reason="takes the place of another user: needs root"),
]

READS = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
"""May read all, since the interpreter may lie in root's home; writes as any user does."""
USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *READS]
COMMANDS = {
    "README.md: --config configs/quickstart.yaml": "--total-timesteps 8192",
    "README.md: --resume latest": "--total-timesteps 12288",
    "README.md: evaluate --checkpoint latest --opponent greedy --games 100": "--games 4",
    "quick-start.md: status": "",
    "quick-start.md: report": "",
}
"""Page and arguments of run.py, and what is added to them here: a small budget."""
TALK = {
    "usi": "usiok",
    "isready": "readyok",
    "usinewgame\nposition startpos moves 7g7f\ngo nodes 8": "bestmove",
}
"""Lines of a shogi GUI, and the word with which the last line of the answer begins."""


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
            # Where torch's own index cannot be reached, pip takes what the others have, soon.
            pip = {"PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0"}
            env = environment(PATH=path, **pip, **self._arguments)
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

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Starts a program of the environment in /app, as user 1000; errors are in its output."""
        path, home = f"{self.venv}/bin:/usr/bin:/bin", str(self.root / "home")
        env = environment(PATH=path, HOME=home, TERM="dumb")
        env.pop("PYTHONPATH", None)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*USER, *words], cwd=self.app, env=env, text=True,
            stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *words: str) -> str:
        """Returns what a program prints, which must succeed."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    root = Path(tempfile.mkdtemp(prefix="image"))
    root.chmod(0o755)
    try:
        yield Image(root)
    finally:
        shutil.rmtree(root)


def last_answer(image: Image) -> str:
    """Talks to the engine as a GUI does; returns the last line."""
    engine = image.start("python", "run.py", "usi", "--checkpoint", "latest")
    assert engine.stdin is not None
    assert engine.stdout is not None
    for said, answer in TALK.items():
        engine.stdin.write(f"{said}\n")
        engine.stdin.flush()
        line = next((line for line in engine.stdout if line.startswith(answer)), "")
        assert line, said
    engine.communicate("quit\n", timeout=60)
    assert engine.returncode == 0
    return line


def test_the_commands_of_the_readme_run_as_the_images_user(image: Image) -> None:
    copied = {
        f"{shown.split(': ')[0]}: {shlex.join(arguments)}": arguments
        for shown, arguments in copied_commands().items()
    }
    outputs = [
        image.run("python", "run.py", *copied[shown], *shlex.split(more))
        for shown, more in COMMANDS.items()
    ]
    (run_dir,) = (image.app / "runs").iterdir()
    metrics = json_records(run_dir / "metrics.jsonl")
    assert [metric["update"] for metric in metrics] == list(range(1, len(metrics) + 1))
    assert metrics[-1]["timestep"] == 12288
    (match,) = json_records(run_dir / "matches.jsonl")
    assert (match["opponent"], match["games"]) == ("greedy", 4)
    assert "12,288 of 12,288" in outputs[3]
    assert (run_dir / "report.html").stat().st_size > 10_000
    assert re.fullmatch(r"bestmove \S{4,5}\n", last_answer(image))


def test_every_tracker_and_the_export_work(image: Image) -> None:
    debug = ["--config", "configs/debug.yaml", "--run-dir", "runs/debug"]
    trackers = ["--set", "tracking.wandb=offline", "--set", "tracking.tensorboard=true"]
    image.run("python", "run.py", *debug, "--total-timesteps", "512", *trackers)
    run_dir = image.app / "runs/debug"
    assert list(run_dir.glob("wandb/*/*.wandb"))
    assert list(run_dir.glob("tensorboard/*"))
    onnx = ["--format", "onnx", "--output", "runs/debug.onnx"]
    image.run("python", "run.py", "export", "--checkpoint", "runs/debug", *onnx)


def test_every_extra_is_there_in_its_fixed_version(image: Image) -> None:
    image.run("python", "-c", "import gcsfs, optuna, s3fs; from ray import tune")
    frozen = image.run("python", "-m", "pip", "list", "--format=freeze")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    installed = {p.split("+")[0] for p in frozen.lower().replace("_", "-").split()}
    others = {p for p in installed - set(pinned.split()) if "==" in p}
    assert {p.split("==")[0] for p in others} <= {"pip", "setuptools", "keisei-ray"}
