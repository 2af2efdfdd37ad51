"""A page in a real browser, with a probe that does what a person would."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
"""Path of the browser; None: it is not on this machine."""

_WATCH = """<script>
window.seen = {errors: []};
addEventListener("error", (event) => seen.errors.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => seen.errors.push(event.violatedDirective));
</script>"""
_REPORT = """<script>
document.body.append(Object.assign(document.createElement("pre"),
  {id: "seen", textContent: JSON.stringify(seen)}));
</script>"""


@contextlib.contextmanager
def sockets_of_its_own() -> Iterator[dict[str, str]]:
    """Yields an environment in which a browser leaves nothing among the temporary files.

    A test's own directory will not do: its path is too long for a socket.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield {**os.environ, "TMPDIR": folder}


def visit(page: Path, probe: str, width: int) -> dict[str, Any]:
    """Runs a script in a page and returns what it has put into `seen`, with the page's `errors`."""
    text = page.read_text(encoding="utf-8")
    probed = page.with_name("probed.html")
    script = f"<script>{probe}</script>{_REPORT}</body>"
    probed.write_text(
        text.replace("<title>", _WATCH + "<title>", 1).replace("</body>", script),
        encoding="utf-8",
    )
    assert CHROMIUM is not None
    with sockets_of_its_own() as environment:
        done = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             f"--user-data-dir={page.parent / 'browser'}", f"--window-size={width},900",
             "--dump-dom", probed.as_uri()],
            capture_output=True, text=True, timeout=120, check=True, env=environment,
        )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return dict(json.loads(unescape(found[1])))
