"""Mutated inputs for everything that reads bytes of others; `tests/helpers/fuzz.py` has more."""

from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.fuzz import READERS, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_raises_named_errors_only(reader: str, tmp_path: Path) -> None:
    inputs = 100 if reader == "learner.pt" else 200
    counts = Counter(outcomes(reader, tmp_path, inputs=inputs, seed=11))
    assert counts.total() == inputs
    assert counts["accepted"], "no mutation is sound: the reader sees nothing but damage"
    assert len(counts) > 1, "no mutation is refused"
