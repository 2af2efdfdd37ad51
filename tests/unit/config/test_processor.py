"""Features of the processor, read from texts that machines really have."""

from pathlib import Path

import pytest

from keisei_ray.config import processor

ZEN_5 = "processor\t: {}\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n\n"
HASWELL = "processor\t: {}\nflags\t\t: fpu sse4_2 avx2 fma\n\n"
SAPPHIRE_RAPIDS = (
    "processor\t: {}\nvendor_id\t: GenuineIntel\n"
    "flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n\n"
)
WITHOUT_AMX = SAPPHIRE_RAPIDS.replace(" amx_bf16 amx_tile", " avx512_fp16")
"""As virtual machines have it, where bfloat16 is slower than float32."""
NEOVERSE = "processor\t: {}\nFeatures\t: fp asimd i8mm bf16 dgh\n\n"


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ([ZEN_5, ZEN_5], True),
        ([SAPPHIRE_RAPIDS], True),
        ([WITHOUT_AMX, WITHOUT_AMX], False),
        ([NEOVERSE], True),
        ([HASWELL, HASWELL], False),
        # Every core may run an actor.
        ([ZEN_5, HASWELL], False),
        # A feature whose name only contains that of another.
        (["flags : avx512_bf16x\n"], False),
        (["model name : bf16 avx512_bf16\n"], False),
        ([], False),
    ],
)
def test_bfloat16_is_known_by_the_features_of_all_cores(cores: list[str], expected: bool) -> None:
    text = "".join(core.format(number) for number, core in enumerate(cores))
    assert processor.lists_bf16(text) is expected


def test_a_machine_that_lists_no_features_has_no_bfloat16(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert not processor.has_bf16()
    (tmp_path / "cpuinfo").write_bytes(b"\xff\xfe\nflags : amx_bf16\n")
    assert processor.has_bf16()
