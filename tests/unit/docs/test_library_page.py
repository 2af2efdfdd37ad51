"""The page on the Python library is a notebook: its blocks run, in their order."""

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.library import training
from keisei_ray.training.session import Outcome
from tests.helpers.report_runs import write_run
from tests.helpers.saved_runs import save_untrained

PAGE = Path(__file__).parents[3] / "docs" / "library.md"


def test_the_blocks_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only training is left out: an untrained network and a made-up run take its place."""

    def run_session(config: Config, console: Console) -> Outcome:
        run_dir = write_run(Path(str(config.run.run_dir)), updates=3, games=2)
        saved = save_untrained(run_dir, timestep=3000)
        return Outcome("done", 3000, run_dir, saved)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "run_session", run_session)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, Any] = {"__name__": "notebook"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "done 3000 runs/first/checkpoints/step-000000003000"
    assert "30 {} -1.0" in shown
    assert shown[-1].startswith("PositionError start position '9/9/")
    assert len(names["moves"]) == 20
