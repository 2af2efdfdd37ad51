"""How many mate problems `shogi/mates.py` settles in how much time of one core.

    python benchmarks/scripts/mates.py --seconds 1.5

The problems are positions of self-play games of a two-cores network, 2 to 24 plies before the end,
without a mate in one. Each line of the file has the position and the plies of the shortest mate by
checks that cshogi's df-pn finds (depth 3, 5, ... 17, 200,000 nodes); 0: none.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keisei_ray.shogi.game import NO_PLY_CAP, Game
from keisei_ray.shogi.mates import MateSearch

PROBLEMS = Path(__file__).parents[1] / "positions" / "mates.jsonl"
MOST_NODES = 1_000_000


@dataclass
class Count:
    """Results of the problems of one length."""

    problems: int = 0
    mates: int = 0
    shortest: int = 0
    no_mates: int = 0
    cpu_s: float = 0.0
    positions: int = 0


def _is_past(end: float) -> bool:
    return time.process_time() >= end


def main() -> None:
    """Solves all problems and prints a Markdown table.

    Raises:
        AssertionError: a mate is found where df-pn finds none, or none where it finds one.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5, help="CPU time for each problem")
    options = parser.parse_args()
    counts: defaultdict[int, Count] = defaultdict(Count)
    for line in PROBLEMS.open():
        problem = json.loads(line)
        plies, count = problem["plies"], counts[problem["plies"]]
        began = time.process_time()
        search = MateSearch(Game(problem["sfen"], max_plies=NO_PLY_CAP))
        search.run(partial(_is_past, began + options.seconds), MOST_NODES)
        assert search.has_mate is not (not plies), problem
        count.problems += 1
        count.mates += search.has_mate is True
        count.shortest += search.has_mate is True and len(search.line) == plies
        count.no_mates += search.has_mate is False
        count.cpu_s += time.process_time() - began
        count.positions += search.expanded
    print("| plies | problems | mates | shortest | no mates | CPU s each | positions each |")
    print("|---|---|---|---|---|---|---|")
    for plies, count in sorted(counts.items()):
        print(
            f"| {plies or 'none'} | {count.problems} | {count.mates} | {count.shortest} "
            f"| {count.no_mates} | {count.cpu_s / count.problems:.2f} "
            f"| {count.positions / count.problems:,.0f} |"
        )


if __name__ == "__main__":
    main()
