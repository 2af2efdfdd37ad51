"""The scripts of the pages: they parse, import what there is, and make no markup from text."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from keisei_ray.web.server import SHARED_DIR, STATIC_DIR

SCRIPTS = sorted([*STATIC_DIR.glob("*.js"), *SHARED_DIR.glob("*.js")])
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no node on this machine")
def test_every_script_parses() -> None:
    assert NODE is not None
    # One process for all: modules are checked by their own import of one another otherwise.
    check = "const vm = require('vm'), fs = require('fs');" + "".join(
        f"new vm.SourceTextModule(fs.readFileSync({str(path)!r}, 'utf8'));" for path in SCRIPTS
    )
    done = subprocess.run(
        [NODE, "--experimental-vm-modules", "--no-warnings", "-e", check],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_names_that_there_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for names, module in re.findall(r"^import \{([^}]*)\} from \"([^\"]+)\";", text, re.MULTILINE):
        imported = (path.parent / module).resolve()
        if not imported.exists():  # The server has the shared files beside the others.
            imported = SHARED_DIR / Path(module).name
        source = imported.read_text(encoding="utf-8")
        for name in filter(None, (name.strip().split(" as ")[0] for name in names.split(","))):
            assert re.search(rf"^export (async )?(function\*?|const|let|class) {name}\b", source,
                             re.MULTILINE), f"{imported.name} has no {name}"  # fmt: skip


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_text_becomes_no_markup_and_no_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser",
        code,
    )
    assert found == []
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", code)
