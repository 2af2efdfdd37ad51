"""The campaign of faults as a command.

    python -m tests.chaos [--seed S] [--faults N] [--log FILE] [--only NAME ...]

injects N faults into runs of `run.py`, checks the run after each, and prints a table. With a log it
can be stopped at any time and goes on where it was.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.campaign import campaign, read_log
from tests.chaos.table import table


def main(arguments: list[str]) -> int:
    """Runs the command and returns 1 if an invariant was violated, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--faults", type=int, default=500, metavar="N")
    parser.add_argument("--log", type=Path, metavar="FILE")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the runs' files stay")
    options = parser.parse_args(arguments)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # Ignored in the background of a shell.
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        try:
            done = campaign(
                options.seed, options.faults, log=options.log, folder=place, only=options.only
            )
        except KeyboardInterrupt:
            if options.log is None:
                raise
            done = read_log(options.log)
    print(table(done))
    violated = [injected for injected in done if injected.violations]
    for injected in violated:
        print(f"\nseed {injected.seed}, run {injected.run}, life {injected.life}: {injected.fault}")
        for violation in injected.violations:
            print(f"  {violation}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
