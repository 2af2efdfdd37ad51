"""A JSON lines file stays readable whatever happens."""

import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.storage import json_lines_writer


def test_a_line_cut_by_a_crash_is_removed_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "games.jsonl"
    line = json_lines_writer.encode({"timestep": 2, "game_id": "b"})
    for cut in range(len(line)):
        path.write_bytes(json_lines_writer.encode({"timestep": 1}) + line[:cut])
        file = json_lines_writer.JsonLinesWriter(path, resumed_timestep=5)
        file.append({"timestep": 3})
        file.close()
        records = [json.loads(text) for text in path.read_text().splitlines()]
        assert records == [{"timestep": 1}, {"timestep": 3}], cut


@given(
    steps=st.lists(st.integers(0, 40), max_size=25),
    resumed=st.integers(0, 450),
    block=st.integers(1, 200),
    half=st.booleans(),
)
def test_setting_aside_equals_reading_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int],
    resumed: int,
    block: int,
    half: bool,
) -> None:
    path = tmp_path_factory.mktemp("run") / "games.jsonl"
    timesteps = [sum(steps[: i + 1]) for i in range(len(steps))]
    lines = [json_lines_writer.encode({"timestep": t, "pad": "x" * (t % 30)}) for t in timesteps]
    path.write_bytes(b"".join(lines) + (b'{"timestep": 1' if half else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines_writer, "_BLOCK", block)
        json_lines_writer.JsonLinesWriter(path, resumed_timestep=resumed).close()
    kept = b"".join(x for x, t in zip(lines, timesteps, strict=True) if t <= resumed)
    assert path.read_bytes() == kept
    aside = path.with_name("games.jsonl.superseded")
    rest = aside.read_bytes() if aside.exists() else b""
    assert kept + rest == b"".join(lines)


def test_a_full_disk_leaves_whole_lines_and_writing_goes_on_afterwards(tmp_path: Path) -> None:
    file = json_lines_writer.JsonLinesWriter(tmp_path / "a.jsonl", resumed_timestep=None)
    file.append({"n": 1, "pad": "x" * 50})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"No space|too large"):
            file.append({"n": 2, "pad": "x" * 50})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.append({"n": 3})
    file.close()
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [r["n"] for r in records] == [1, 3]
