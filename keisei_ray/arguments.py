"""The command line's sub-commands and flags: what may be typed, and what it means."""

import argparse
import math
from pathlib import Path

from keisei_ray.config.player_spec import MATCH_SYNTAX
from keisei_ray.errors import ConfigError
from keisei_ray.storage.run_layout import REPORT_FILE

BENCHES = ("env", "actor", "learner", "wire", "broadcast", "train")


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake raises instead of printing and leaving."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}. See {self.prog} --help.")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _num_actors(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from error


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number of minutes")
    return value


def _temperature(text: str) -> float:
    value = float(text)
    if value != 0.0 and not 0.01 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"{value} is not 0, nor between 0.01 and 100")
    return value


def argument_parser() -> argparse.ArgumentParser:
    """Every sub-command with its flags; a mistake raises `ConfigError`."""
    parser = _Parser(prog="run.py", description="Train a Shogi player by self-play on Ray.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    settings = _Parser(add_help=False)
    settings.add_argument(
        "--config", metavar="FILE", help="YAML file with any part of the settings"
    )
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one setting; may be given several times",
    )
    settings.add_argument(
        "--sweep", metavar="FILE", help="what a sweep chose: JSON of settings; --set overrides it"
    )

    train = commands.add_parser("train", parents=[settings], help="train (the default)")
    train.add_argument(
        "--num-actors", type=_num_actors, metavar="N|auto", help="self-play actors; auto: by CPUs"
    )
    train.add_argument("--total-timesteps", type=int, metavar="N", help="plies to train on")
    train.add_argument("--run-dir", metavar="DIR", help="directory or URI; runs/<time> if absent")
    train.add_argument("--seed", type=int, metavar="S")
    train.add_argument("--resume", metavar="latest|PATH", help="go on from a checkpoint")
    train.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster to join")

    evaluate = commands.add_parser(
        "evaluate", parents=[_playing(temperature=0.0)], help="measure a checkpoint's strength"
    )
    player = evaluate.add_mutually_exclusive_group(required=True)
    player.add_argument("--checkpoint", metavar="PATH|URI", help="the network to measure")
    player.add_argument("--player", metavar=MATCH_SYNTAX, help="or anybody else")
    evaluate.add_argument(
        "--opponent",
        required=True,
        metavar=MATCH_SYNTAX,
        help="checkpoint:PATH+mate1 plays every mate in one; usi:COMMAND is a USI engine, e.g. "
        "'usi:fairy-stockfish?nodes=1000&Skill Level=-20'; of nodes, byoyomi-ms, timeout-s and "
        "processes any may be given, other keys are the engine's options",
    )
    evaluate.add_argument(
        "--finish-mates",
        nargs="?",
        const="yes",
        default="no",
        choices=["no", "yes", "both"],
        help="the network plays every mate in one; both: a match without and one with",
    )
    evaluate.add_argument(
        "--sprt",
        metavar="ELO0,ELO1",
        help="stop when the match tells these Elo differences apart (5%% error each way)",
    )
    evaluate.add_argument(
        "--records", metavar="DIR", help="save each finished game as KIF, CSA and USI"
    )
    evaluate.add_argument("--json", metavar="FILE", help="write the result here as well")

    # By their likeliest moves two networks mostly repeat each other into a draw.
    ladder = commands.add_parser(
        "ladder", parents=[_playing(temperature=0.3)], help="everybody against everybody"
    )
    ladder.add_argument(
        "--players",
        nargs="+",
        default=["random", "greedy"],
        metavar=MATCH_SYNTAX,
        help="random and greedy if absent",
    )
    ladder.add_argument("--run-dir", metavar="DIR", help="all checkpoints of this run play too")
    ladder.add_argument(
        "--finish-mates",
        action="store_true",
        help="each of those once more, playing every mate in one",
    )
    ladder.add_argument(
        "--json", metavar="FILE", help="results, saved after every match; those in it are kept"
    )

    report = commands.add_parser("report", help="show a run as one page of HTML")
    report.add_argument("run_dir", metavar="RUN_DIR")
    report.add_argument("--out", metavar="FILE", help=f"the page; RUN_DIR/{REPORT_FILE} if absent")

    status = commands.add_parser("status", help="how far a run is and how it does")
    status.add_argument("--json", metavar="FILE", help="write it here as well; -: print only that")
    watch = commands.add_parser("watch", help="the view of a run that was started elsewhere")
    for seen in (status, watch):
        run = seen.add_mutually_exclusive_group()
        run.add_argument(
            "named", nargs="?", metavar="RUN_DIR", help="the newest in runs/ if absent"
        )
        run.add_argument("--run-dir", metavar="DIR", help="the same")
        seen.add_argument(
            "--address",
            metavar="HOST:PORT",
            help="of a Ray cluster that this machine is a node of, or auto: a run there, wherever "
            "its files lie; RUN_DIR is then the end of its path, any run if absent",
        )

    tune = commands.add_parser("tune", help="search settings by Ray Tune")
    tune.add_argument("--config", metavar="FILE", help="the sweep file, see configs/tune/")
    tune.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one setting of the base configuration; may be given several times",
    )
    tune.add_argument(
        "--run-dir", metavar="DIR", help="of the whole sweep; runs/tune-<time> if absent"
    )
    tune.add_argument("--resume", action="store_true", help="go on with the sweep in --run-dir")
    tune.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster to join")
    tune.add_argument("--json", metavar="FILE", help="write the results here as well")

    bench = commands.add_parser("bench", parents=[settings], help="measure speed, as ratios")
    names = [*BENCHES, "learning"]
    bench.add_argument("benches", nargs="*", choices=[*names, []], metavar="|".join(names))
    bench.add_argument("--json", metavar="FILE", help="write the results here as well")

    learning = bench.add_argument_group("learning", "runs from zero, and matches of what they save")
    learning.add_argument("--seeds", type=_seed, nargs="+", default=[1, 2, 3], metavar="S")
    learning.add_argument("--minutes", type=_minutes, default=20.0, metavar="M", help="of each run")
    learning.add_argument("--games", type=_positive, default=200, metavar="N", help="of each match")
    learning.add_argument(
        "--out-dir", default="runs/bench-learning", metavar="DIR", help="goes on where it stopped"
    )

    commands.add_parser("config", parents=[settings], help="print the effective configuration")
    return parser


def _playing(*, temperature: float) -> _Parser:
    """The flags of a command that plays matches."""
    playing = _Parser(add_help=False)
    playing.add_argument("--games", type=_positive, default=100, metavar="N", help="of a match")
    playing.add_argument("--seed", type=_seed, default=1, metavar="S")
    playing.add_argument(
        "--temperature",
        type=_temperature,
        default=temperature,
        metavar="T",
        help="of networks. 0: the likeliest move; above: sample from softmax(logits / T). "
        "%(default)s if absent",
    )
    playing.add_argument(
        "--openings",
        type=Path,
        metavar="FILE",
        help="start from these and not from random plies: one a line, 'startpos moves 7g7f 3c3d' "
        "or 'sfen SFEN [moves ...]'",
    )
    return playing
