"""Game records of others: read as labelled positions to learn from, and written.

Formats are in `shogi/`: text in `record_reader.py` and `notation.py`, positions in
`binary_records.py`, games with visits in `hcpe3.py`. Here files become streams of games, games
become positions, and everything that is left out is counted by its cause.
"""

from typing import Final, Literal, get_args

RecordFormat = Literal["csa", "kif", "usi", "hcpe", "hcpe3", "psv", "pack", "jsonl"]
RECORD_FORMATS: Final[tuple[RecordFormat, ...]] = get_args(RecordFormat)
"""Formats that games are written in, see `writers.py`."""
