"""The command line: sub-commands, files and flags into one Config, errors into exit codes."""

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from keisei_ray.config import Config
from keisei_ray.errors import ConfigError, UserError
from keisei_ray.json_file import check_json, write_json
from keisei_ray.resolver import load_sweep, resolve_config

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
COMMANDS = ("train", "evaluate", "ladder", "report", "status", "watch", "bench", "config")
RAYLET_NOISE = "worker processes have been started on node"
PLAYERS = "random|greedy|checkpoint:PATH|usi:COMMAND"
BENCHES = ("env", "actor", "learner", "wire", "broadcast", "train")


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake raises instead of printing and leaving."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}. See {self.prog} --help.")


def entry_point() -> None:
    """Console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit code: 0, 1, 2 or 130 (see the README)."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        return _dispatch(list(arguments))
    except UserError as error:
        errors.print(f"{type(error).__name__}: {error}", style="red")
        return EXIT_USAGE
    except KeyboardInterrupt:
        errors.print("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except Exception:  # noqa: BLE001  the process border: whatever comes here nobody foresaw
        errors.print_exception(max_frames=20)
        return EXIT_FAILED


def _dispatch(arguments: list[str]) -> int:
    parser = _parser()
    # `train` is the default command.
    if not arguments or (arguments[0] not in COMMANDS and arguments[0] not in ("-h", "--help")):
        if arguments and not arguments[0].startswith("-"):
            raise ConfigError(
                f"unknown command {arguments[0]!r}, expected one of {', '.join(COMMANDS)}."
            )
        arguments = ["train", *arguments]
    options = parser.parse_args(arguments)
    command = {
        "train": _train,
        "evaluate": _evaluate,
        "ladder": _ladder,
        "report": _report,
        "status": _status,
        "watch": _watch,
        "bench": _bench,
        "config": _config,
    }
    return command[options.command](options)


def _train(options: argparse.Namespace) -> int:
    # Many actors on few cores are meant: Ray prints this into the view for each two of them. It
    # reads the setting when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", RAYLET_NOISE)
    from keisei_ray.training import train

    console = Console()
    outcome = train(_resolve_training(options), console)
    return EXIT_INTERRUPTED if outcome.reason == "interrupted" else EXIT_DONE


def _evaluate(options: argparse.Namespace) -> int:
    from keisei_ray.evaluation.command import EvaluateOptions, evaluate
    from keisei_ray.evaluation.sprt import Hypotheses

    check_json(options.json)
    result = evaluate(
        EvaluateOptions(
            player=options.player or f"checkpoint:{options.checkpoint}",
            opponent=options.opponent,
            num_games=options.games,
            seed=options.seed,
            temperature=options.temperature,
            finish_mates=options.finish_mates,
            sprt=Hypotheses.parse(options.sprt) if options.sprt else None,
            records=Path(options.records) if options.records else None,
            openings=options.openings,
        ),
        Console(),
    )
    write_json(options.json, result)
    if result["error"]:
        raise UserError(result["error"])
    return EXIT_INTERRUPTED if result["interrupted"] else EXIT_DONE


def _ladder(options: argparse.Namespace) -> int:
    from keisei_ray.evaluation.ladder import ladder

    check_json(options.json)
    _, interrupted = ladder(
        players=options.players,
        run_dir=Path(options.run_dir) if options.run_dir else None,
        finish_mates=options.finish_mates,
        num_games=options.games,
        seed=options.seed,
        temperature=options.temperature,
        file=Path(options.json) if options.json else None,
        console=Console(),
        openings=options.openings,
    )
    return EXIT_INTERRUPTED if interrupted else EXIT_DONE


def _report(options: argparse.Namespace) -> int:
    from keisei_ray.report.command import write_report

    file = write_report(Path(options.run_dir), Path(options.out) if options.out else None)
    sys.stdout.write(f"{file}\n")
    return EXIT_DONE


def _status(options: argparse.Namespace) -> int:
    from keisei_ray.status import command, state

    is_piped = options.json == "-"
    check_json(None if is_piped else options.json)
    run_dir = command.find_run(options.named or options.run_dir)
    if is_piped:
        status = state.status_of(run_dir, time.time())
        sys.stdout.write(json.dumps(state.as_json(status), indent=2) + "\n")
    else:
        status = command.show_status(run_dir, Console(highlight=False))
        write_json(options.json, state.as_json(status))
    return EXIT_DONE


def _watch(options: argparse.Namespace) -> int:
    from keisei_ray.status.command import find_run, watch

    watch(find_run(options.named or options.run_dir), Console())
    return EXIT_DONE


def _bench(options: argparse.Namespace) -> int:
    from keisei_ray.bench import run_benchmarks

    check_json(options.json)
    config = _resolve(options, {})
    console = Console()
    if "learning" in options.benches:
        result = _bench_learning(options, config, console)
    else:
        result = run_benchmarks(options.benches or list(BENCHES), config, console)
    write_json(options.json, result)
    return EXIT_DONE


def _bench_learning(
    options: argparse.Namespace, config: Config, console: Console
) -> dict[str, object]:
    """The learning benchmark: hours, so it is run alone and only when asked for."""
    from keisei_ray.bench.learning import run_learning

    if options.benches != ["learning"]:
        raise ConfigError("bench learning takes hours and is run alone; leave the others out.")
    if options.games % 2:
        raise ConfigError(f"--games {options.games}: expected an even number.")
    return run_learning(
        config,
        seeds=options.seeds,
        minutes=options.minutes,
        num_games=options.games,
        out_dir=Path(options.out_dir),
        console=console,
    )


def _config(options: argparse.Namespace) -> int:
    sys.stdout.write(_resolve(options, {}).model_dump_json(indent=2) + "\n")
    return EXIT_DONE


def _resolve(options: argparse.Namespace, flags: dict[str, object]) -> Config:
    sweep = load_sweep(options.sweep) if options.sweep else {}
    return resolve_config(options.config, os.environ, options.set, flags, sweep)


def _resolve_training(options: argparse.Namespace) -> Config:
    """The run's configuration; a resumed run starts from the one it was saved with."""
    flags: dict[str, object] = {
        "self_play.num_actors": options.num_actors,
        "run.total_timesteps": options.total_timesteps,
        "run.run_dir": options.run_dir,
        "run.seed": options.seed,
        "run.resume": options.resume,
        "cluster.address": options.address,
    }
    if options.config is None and options.resume is not None:
        options.config = _saved_config(options)
    return _resolve(options, flags)


def _saved_config(options: argparse.Namespace) -> str | None:
    """The `config.json` that goes with `--resume`, if it is where it should be."""
    from keisei_ray.training import newest_run_dir

    if options.resume != "latest":
        path = Path(options.resume) / "config.json"
    else:
        path = (Path(options.run_dir) if options.run_dir else newest_run_dir()) / "config.json"
    return str(path) if path.is_file() else None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


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


def _parser() -> argparse.ArgumentParser:
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
    train.add_argument("--num-actors", type=int, metavar="N", help="self-play actors")
    train.add_argument("--total-timesteps", type=int, metavar="N", help="plies to train on")
    train.add_argument("--run-dir", metavar="DIR", help="where the run lies; runs/<time> if absent")
    train.add_argument("--seed", type=int, metavar="S")
    train.add_argument("--resume", metavar="latest|PATH", help="go on from a checkpoint")
    train.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster to join")

    evaluate = commands.add_parser(
        "evaluate", parents=[_playing(temperature=0.0)], help="measure a checkpoint's strength"
    )
    player = evaluate.add_mutually_exclusive_group(required=True)
    player.add_argument("--checkpoint", metavar="PATH", help="the network to measure")
    player.add_argument("--player", metavar=PLAYERS, help="or anybody else")
    evaluate.add_argument(
        "--opponent",
        required=True,
        metavar=PLAYERS,
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
        metavar=PLAYERS,
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
    report.add_argument("--out", metavar="FILE", help="the page; RUN_DIR/report.html if absent")

    status = commands.add_parser("status", help="how far a run is and how it does, from its files")
    status.add_argument("--json", metavar="FILE", help="write it here as well; -: print only that")
    watch = commands.add_parser("watch", help="the view of a run that was started elsewhere")
    for seen in (status, watch):
        run = seen.add_mutually_exclusive_group()
        run.add_argument(
            "named", nargs="?", metavar="RUN_DIR", help="the newest in runs/ if absent"
        )
        run.add_argument("--run-dir", metavar="DIR", help="the same")

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
