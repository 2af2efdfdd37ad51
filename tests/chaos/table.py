"""The table of a campaign: for each fault how often, what became of the run, what was violated."""

from collections import Counter
from collections.abc import Sequence

from tests.chaos.campaign import Injected


def table(done: Sequence[Injected]) -> str:
    """Returns a table in Markdown, one row per fault, the sums last."""
    rows = ["| Fault | Injected | Outcomes | Violations |", "|---|---|---|---|"]
    for fault in sorted({injected.fault for injected in done}):
        own = [injected for injected in done if injected.fault == fault]
        outcomes = Counter(injected.outcome.partition(":")[0] for injected in own)
        told = "; ".join(f"{outcome}: {count}" for outcome, count in outcomes.most_common())
        rows.append(f"| {fault} | {len(own)} | {told} | {_violated(own)} |")
    rows.append(f"| all | {len(done)} | | {_violated(done)} |")
    return "\n".join(rows)


def _violated(done: Sequence[Injected]) -> int:
    return sum(bool(injected.violations) for injected in done)
