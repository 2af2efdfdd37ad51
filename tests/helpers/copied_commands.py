"""The command lines of run.py that a reader of the documentation and of `cluster/` would copy."""

import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
CLUSTERS_PAGE = ROOT / "docs" / "clusters.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_DOOR = re.compile(
    r"(?P<door>run\.py|train\.sh|slurm\.sh|keisei-ray:cpu|keisei-ray:cuda)(?: (?! )|$)"
)
_ENDS = {"&&", "||", "|", ";", "&"}


def code_lines(text: str) -> list[str]:
    """Returns the lines of fenced code blocks, continued ones joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def comment_lines(text: str) -> list[str]:
    """Returns the comment lines of a script or YAML file that are set off as code."""
    return [line.strip(" #") for line in text.splitlines() if line.startswith("#   ")]


def run_arguments(line: str) -> list[str] | None:
    """Returns the arguments that run.py gets from a shell line; None if the line does not run it.

    A usage line, with [options] or "$@" in it, is no command. train.sh, slurm.sh and the image
    hand their arguments on; the first of the scripts' is the run's directory.
    """
    found = _DOOR.search(line)
    if found is None or " [" in line or "$@" in line or not re.search(r"\w \S*\w", line):
        return None
    before, rest = line[: found.start()], line[found.end() :]
    if found["door"].startswith("keisei-ray") and "docker run" not in before:
        return None
    if before.count("'") % 2:  # Inside the quotes of another command, e.g. of `ray exec`.
        rest = rest.rsplit("'", 1)[0]
    words = shlex.split(rest, comments=True)
    ends = [index for index, word in enumerate(words) if word in _ENDS]
    words = words[: ends[0]] if ends else words
    if found["door"] in ("train.sh", "slurm.sh"):
        return ["--run-dir", *words]
    return words


def copied_commands() -> dict[str, list[str]]:
    """Returns every run.py command of the documentation and of `cluster/`: shown -> arguments.

    Usage lines, which name alternatives by `|`, are left out.
    """
    lines: list[tuple[str, str]] = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        lines += [(path.name, line) for line in code_lines(text) if "|" not in line]
    for path in sorted(p for p in CLUSTER.rglob("*") if p.suffix != ".md" and p.is_file()):
        if "__pycache__" not in path.parts:
            lines += [(path.name, line) for line in comment_lines(path.read_text(encoding="utf-8"))]
    for path in sorted((CLUSTER / "kuberay").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if "entrypoint" in document["spec"]:
                lines.append((path.name, document["spec"]["entrypoint"]))
    commands = {}
    for name, line in lines:
        arguments = run_arguments(line)
        if arguments is not None:
            commands[f"{name}: {line}"] = arguments
    return commands


def ray_commands() -> dict[str, list[str]]:
    """Returns every line of `docs/clusters.md` that calls Ray's program: shown -> arguments."""
    commands = {}
    for line in code_lines(CLUSTERS_PAGE.read_text(encoding="utf-8")):
        found = re.search(r"(?:^|=token |-- )ray (.*)", line)
        if found is not None:
            words = shlex.split(found[1], comments=True)
            commands[line] = words[: words.index(">")] if ">" in words else words
    return commands
