"""Many learning trials, two at a time: a screen of settings, and one change at a time.

    python benchmarks/scripts/experiments.py benchmarks/plans/screen.yaml \
        --reference RUN --out screen.jsonl

The YAML file has `timesteps`, `seeds`, optionally `base`, `every` (plies between matches; else only
at the end), `games` of a match and `opponents`, and one or both of

    factors:  name -> [settings at -, settings at +]: a folded Plackett-Burman screen. Every run
              sets every factor to one of its two levels, half of the runs each, so that each
              effect is a difference of two halves of all runs, clear of interactions of two.
    changes:  name -> settings: each is run with every seed; an empty list is the base.

where settings are a list of `section.key=value` that override `base` and `trial.BASE`. Finished
trials are in the output file and are not run again; tables of all trials are printed at the end.

Source of the design: Plackett and Burman 1946, 24 runs for up to 23 factors; folding it (a second
half with every level exchanged) as in Box, Hunter and Hunter, "Statistics for Experimenters".
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import trial
import yaml

PLACKETT_BURMAN_24 = "+++++-+-++--++--+-+----"
"""First row of 24 runs. Each further row is the one before, rotated by one; the last is minus."""


@dataclass(frozen=True)
class Trial:
    """One run with one set of settings."""

    name: str
    seed: int
    settings: tuple[str, ...]
    levels: dict[str, int] | None = None
    """Factor -> -1 or +1, in a screen; else None."""


def screen(factors: dict[str, list[list[str]]]) -> Iterator[Trial]:
    """Yields 48 trials, each with a seed of its own.

    Raises:
        ValueError: more factors than the design has columns.
    """
    if len(factors) > len(PLACKETT_BURMAN_24):
        raise ValueError(f"{len(factors)} factors, expected at most {len(PLACKETT_BURMAN_24)}.")
    first = [1 if sign == "+" else -1 for sign in PLACKETT_BURMAN_24]
    rows = [first[i:] + first[:i] for i in range(len(first))] + [[-1] * len(first)]
    for number, row in enumerate(rows + [[-level for level in row] for row in rows]):
        levels = dict(zip(factors, row, strict=False))
        settings = [s for name, level in levels.items() for s in factors[name][level > 0]]
        yield Trial(f"screen {number}", 1000 + number, tuple(settings), levels)


def one_at_a_time(changes: dict[str, list[str]], seeds: Sequence[int]) -> Iterator[Trial]:
    """Yields the trials seed by seed: an interrupted series then has all changes equally often."""
    for seed in seeds:
        for name, settings in changes.items():
            yield Trial(name, seed, tuple(settings))


def run_trial(
    one: Trial, timesteps: int, every: int, matches: trial.Matches
) -> list[dict[str, Any]]:
    """Runs a trial and returns its records; called in a process of its own."""
    config = trial.trial_config(timesteps, [f"run.seed={one.seed}", *one.settings])
    about = {"name": one.name, "seed": one.seed, "set": one.settings, "levels": one.levels}
    return [about | record for record in trial.run(config, every, matches)]


def measures(records: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the names of the trials' scores."""
    return list(records[0]["scores"])


def effects_table(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields a Markdown table: for each factor the mean score at + less the mean score at -.

    The standard deviation of such a difference of two halves comes from what all effects together
    leave unexplained, over the remaining degrees of freedom.
    """
    names = measures(records)
    yield "| factor, at + | " + " | ".join(names) + " | CPU s |"
    yield "|---|" + "---|" * (len(names) + 1)
    factors = list(records[0]["levels"])
    columns = [[r["scores"][m]["score"] for r in records] for m in names]
    columns.append([r["cpu_s"] for r in records])
    effects = [
        [
            2 * statistics.fmean(r["levels"][f] * y for r, y in zip(records, ys, strict=True))
            for f in factors
        ]
        for ys in columns
    ]
    for place, factor in enumerate(factors):
        cells = [f"{column[place]:+.2f}" for column in effects[:-1]] + [
            f"{effects[-1][place]:+.0f}"
        ]
        yield f"| {factor} | " + " | ".join(cells) + " |"
    deviations = []
    for ys, column in zip(columns, effects, strict=True):
        mean = statistics.fmean(ys)
        residuals = [
            y - mean - sum(e * r["levels"][f] / 2 for e, f in zip(column, factors, strict=True))
            for y, r in zip(ys, records, strict=True)
        ]
        freedom = max(1, len(records) - len(factors) - 1)
        deviations.append(2 * (sum(x * x for x in residuals) / freedom / len(records)) ** 0.5)
    yield (
        "| standard deviation of an effect | "
        + " | ".join(f"{d:.2f}" for d in deviations[:-1])
        + f" | {deviations[-1]:.0f} |"
    )
    yield (
        "| mean of all | "
        + " | ".join(f"{statistics.fmean(ys):.2f}" for ys in columns[:-1])
        + f" | {statistics.fmean(columns[-1]):.0f} |"
    )


def changes_table(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields a Markdown table: the mean over seeds of each score, with the least and the most."""
    names = measures(records)
    yield "| trial | plies | seeds | " + " | ".join(names) + " | entropy | CPU s |"
    yield "|---|---|---|" + "---|" * (len(names) + 2)
    for name, timestep in sorted({(r["name"], r["timestep"]) for r in records}):
        mine = [r for r in records if (r["name"], r["timestep"]) == (name, timestep)]
        cells = []
        for measure in names:
            ys = [r["scores"][measure]["score"] for r in mine]
            cells.append(f"{statistics.fmean(ys):.2f} ({min(ys):.2f}-{max(ys):.2f})")
        cells.append(f"{statistics.fmean(r['entropy'] for r in mine):.2f}")
        cells.append(f"{statistics.fmean(r['cpu_s'] for r in mine):.0f}")
        yield f"| {name} | {timestep:,} | {len(mine)} | " + " | ".join(cells) + " |"


def main() -> None:
    """Runs the trials that are missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--reference", nargs="*", default=[], metavar="CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    plan = yaml.safe_load(options.plan.read_text())
    trials: list[Trial] = []
    if "factors" in plan:
        trials += screen(plan["factors"])
    if "changes" in plan:
        trials += one_at_a_time(plan["changes"], plan["seeds"])
    base = tuple(plan.get("base", ()))
    trials = [replace(one, settings=base + one.settings) for one in trials]
    matches = trial.Matches(
        plan.get("games", trial.Matches.games),
        tuple(plan.get("opponents", trial.Matches.opponents)),
        tuple(options.reference),
    )
    every = plan.get("every", plan["timesteps"])
    records = [json.loads(line) for line in options.out.open()] if options.out.exists() else []
    done = {(r["name"], r["seed"]) for r in records}
    for one in trials:  # Raises now if a setting is wrong, not after an hour.
        trial.trial_config(plan["timesteps"], one.settings)
    # Spawned: torch's threads do not survive a fork.
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(run_trial, one, plan["timesteps"], every, matches)
            for one in trials
            if (one.name, one.seed) not in done
        ]
        with options.out.open("a") as out:
            for future in as_completed(futures):
                for record in future.result():
                    records.append(record)
                    out.write(json.dumps(record) + "\n")
                out.flush()
    of_screen = [r for r in records if r["levels"] and r["timestep"] >= plan["timesteps"]]
    of_changes = [r for r in records if not r["levels"]]
    for table, chosen in ((effects_table, of_screen), (changes_table, of_changes)):
        if chosen:
            print("\n".join(table(chosen)), "\n")


if __name__ == "__main__":
    main()
