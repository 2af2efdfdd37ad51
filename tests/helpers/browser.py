"""A page in a real browser, with a probe that does what a person would."""

import json
import re
import shutil
import subprocess
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
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
         f"--user-data-dir={page.parent / 'browser'}", f"--window-size={width},900",
         "--dump-dom", probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return dict(json.loads(unescape(found[1])))
