"""Commands and flags of the command line: what may be typed, and what it means.

Flags are accepted as they are documented only: an abbreviation is refused like any other unknown
flag, in one line with the nearest known one.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keisei_ray import argument_values as values
from keisei_ray.config.describe import SETTINGS
from keisei_ray.config.nearest import likeness, nearest
from keisei_ray.errors import ConfigError
from keisei_ray.export import FORMATS
from keisei_ray.records import RECORD_FORMATS
from keisei_ray.storage.run_layout import GAMES_FILE, REPORT_FILE

PLAYERS = """\
PLAYER is one of:
  random           any legal move
  random+mate1     mate in one, else any legal move
  greedy           mate in one, else the move that gains most material
  greedy2          the same, less what the opponent's answer gains
  checkpoint:PATH  a network: PATH is a run, a checkpoint or latest.
                   checkpoint:PATH+mate1 plays every mate in one,
                   checkpoint:PATH?simulations=200 looks ahead
  usi:COMMAND      a USI engine:
                   'usi:fairy-stockfish?nodes=1000&Skill Level=-20'.
                   nodes, byoyomi-ms, timeout-s and processes are read here,
                   other keys are the engine's options
greedy?random=P plays a share P of its moves at random; greedy2?random=P too."""
ALL_SETTINGS = "All settings and their meaning: run.py config --describe [SECTION|KEY]."
SURELY_MEANT = 0.8
"""Likeness from which a known flag is taken for the one that was meant, even where a setting has
just the name that was typed: `--num_actors` is `--num-actors`, but `--learning-rate` is a setting.
"""
_FLAG = re.compile(r"--?[A-Za-z][^\s=]*")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads a command line; `train` is the command if none is named.

    Returns:
        The name of the command as `command`, and every flag of it, given or not.

    Raises:
        ConfigError: one line: an unknown command or flag with the nearest known one, or a value
            that is missing or cannot be read.
        SystemExit: after the help that was asked for.
    """
    given = list(arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "train")
    if not given[0].startswith("-") and given[0] not in COMMANDS:
        raise ConfigError(
            f"unknown command {given[0]!r}. Did you mean {nearest(given[0], COMMANDS)!r}? "
            f"The commands are {', '.join(COMMANDS)}."
        )
    return argument_parser().parse_args(given)


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake raises instead of printing and leaving."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}. See {self.prog} --help.")


class _CommandParser(_Parser):
    """Flags of one command; an unknown or abbreviated one is refused before argparse sees it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for argument in args:
            if argument == "--":
                break
            flag = argument.partition("=")[0]
            if _FLAG.fullmatch(flag) and flag not in self._option_string_actions:
                remedy = self._remedy(flag)
                raise ConfigError(f"unknown flag {flag!r}. {remedy} See {self.prog} --help.")
        found, unread = super().parse_known_args(args, namespace)
        if unread:
            self.error(f"unexpected argument {unread[0]!r}")
        return found, unread

    def _remedy(self, flag: str) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        found = nearest(flag, known)
        name = flag.strip("-").replace("-", "_")
        keys = [key for key in SETTINGS if name in (key, key.partition(".")[2])]
        if keys and "--set" in known and likeness(flag, found) < SURELY_MEANT:
            return f"It is a setting: {' or '.join(f'--set {key}=VALUE' for key in keys)}."
        return f"Did you mean {found!r}?"


def argument_parser() -> argparse.ArgumentParser:
    """Makes the parser of every command with its flags; a mistake raises `ConfigError`."""
    parser = _Parser(
        prog="run.py",
        description="Trains a Shogi player by self-play on Ray, and measures and shows it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=_CommandParser, metavar="COMMAND"
    )
    for name, (summary, add_flags) in COMMANDS.items():
        add_flags(commands.add_parser(name, help=summary, description=f"{summary}."))
    flags = re.sub(
        r"^  -h, --help .*\n",
        "",
        commands.choices["train"].format_help().partition("options:\n")[2],
    )
    parser.epilog = f"flags of train, which is the command if none is named:\n{flags}"
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    _add_settings(train)
    train.add_argument(
        "--num-actors",
        type=values.num_actors,
        metavar="N|auto",
        help="number of self-play actors; auto: as many as there are CPUs for; auto:0.5: for half",
    )
    train.add_argument("--total-timesteps", type=int, metavar="N", help="plies to train on")
    train.add_argument(
        "--run-dir", metavar="DIR", help="run directory, or its URI; default: runs/<UTC time>"
    )
    train.add_argument("--seed", type=int, metavar="S", help="root of every random stream")
    train.add_argument(
        "--resume",
        metavar="latest|PATH",
        help="continue from a checkpoint, or from a run's newest intact one; latest: that of the "
        "run directory",
    )
    train.add_argument(
        "--init-from",
        metavar="PATH|URI|latest",
        help="start a fresh run from the network of a checkpoint, also of another run, e.g. of "
        "pretrain; the settings may ask for more blocks or channels",
    )
    train.add_argument(
        "--force",
        action="store_true",
        help="take the run over from a process on another machine that has locked its directory "
        "and gives no sign of life",
    )
    _add_trust(train, "run the engines and subscribers that its settings name")
    _add_address(train)


def _add_pretrain(pretrain: argparse.ArgumentParser) -> None:
    pretrain.add_argument(
        "--records",
        nargs="+",
        metavar="PATH",
        help="files and directories of game records, or their URIs: CSA, KIF, KI2, USI lines, "
        f"hcpe, hcpe3, psv, pack, {GAMES_FILE}",
    )
    _add_train(pretrain)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    player = evaluate.add_mutually_exclusive_group(required=True)
    player.add_argument(
        "--checkpoint",
        metavar="PATH|URI|latest",
        help="the network to measure, latest: that of the newest run; with ?simulations=N it looks "
        "ahead",
    )
    player.add_argument("--player", metavar="PLAYER", help="the player to measure, of any kind")
    evaluate.add_argument(
        "--opponent",
        required=True,
        metavar="PLAYER",
        help="the player to measure it against",
    )
    _add_match(evaluate, temperature=0.0)
    evaluate.add_argument(
        "--finish-mates",
        nargs="?",
        const="yes",
        default="no",
        choices=["no", "yes", "both"],
        help="whether the measured network plays every mate in one; both: a match without and "
        "one with",
    )
    evaluate.add_argument(
        "--sprt",
        metavar="ELO0,ELO1",
        help="stop as soon as a sequential test decides between these two Elo differences "
        "(5%% error each way)",
    )
    evaluate.add_argument(
        "--records", metavar="DIR", help="save each finished game as KIF, CSA and USI"
    )
    evaluate.add_argument(
        "--kif-encoding",
        default="utf-8",
        choices=["utf-8", "shift-jis"],
        help="encoding of the KIF files of --records: utf-8 writes .kifu files, shift-jis .kif "
        "files for programs that read no others",
    )
    _add_json(evaluate, "write the result to this file as well")


def _add_ladder(ladder: argparse.ArgumentParser) -> None:
    ladder.add_argument(
        "--players",
        nargs="+",
        default=["random", "greedy"],
        metavar="PLAYER",
        help="the players; default: random and greedy",
    )
    ladder.add_argument(
        "--run-dir", metavar="DIR", help="all intact checkpoints of this run play as well"
    )
    # By their likeliest moves the networks of one run play much the same games again and again.
    _add_match(ladder, temperature=0.3)
    ladder.add_argument(
        "--finish-mates",
        action="store_true",
        help="each checkpoint, of --players or --run-dir, also plays as one that finds every mate "
        "in one",
    )
    _add_json(ladder, "results, saved after every match; matches already in it are not repeated")


def _add_generate(generate: argparse.ArgumentParser) -> None:
    generate.add_argument(
        "--player", required=True, metavar="PLAYER", help="one player, of any kind"
    )
    generate.add_argument(
        "--opponent", metavar="PLAYER", help="the other player; default: the same"
    )
    generate.add_argument(
        "--out", required=True, metavar="DIR", help="directory of the files, empty or not yet there"
    )
    generate.add_argument(
        "--formats",
        nargs="+",
        default=list(RECORD_FORMATS),
        choices=RECORD_FORMATS,
        metavar="FORMAT",
        help=f"formats of the files, of {', '.join(RECORD_FORMATS)}; default: all",
    )
    _add_match(generate, temperature=0.0)
    generate.add_argument(
        "--opening-plies",
        type=values.count,
        default=8,
        metavar="N",
        help="largest number of random plies at the start; each game has a random number from 0 "
        "to this. They are not among the positions to learn from. Default: %(default)s",
    )
    generate.add_argument(
        "--max-plies",
        type=values.positive,
        default=512,
        metavar="N",
        help="plies, opening included, after which a game is cut and counts as a draw. Default: "
        "%(default)s",
    )
    _add_json(generate, "write what was played to this file as well")


def _add_usi(usi: argparse.ArgumentParser) -> None:
    usi.add_argument(
        "--checkpoint",
        metavar="PATH|URI|latest",
        help="the network: a run, a checkpoint or the URI of one; default, and latest: the newest "
        "run in runs/",
    )
    usi.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="default of an option that the client may set, e.g. Simulations=800; may be repeated",
    )


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "--checkpoint", required=True, metavar="PATH|URI|latest", help="the network to export"
    )
    export.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="onnx and torchscript: the whole network, from compact positions; safetensors: its "
        "weights; dlshogi: an ONNX file for engines that load networks of dlshogi",
    )
    export.add_argument("--output", required=True, metavar="FILE", help="a file not yet there")


def _add_analyze(analyze: argparse.ArgumentParser) -> None:
    analyze.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH|URI|latest",
        help="the network: a run, whose newest checkpoint it is, or a checkpoint; latest: the "
        "newest run in runs/",
    )
    analyze.add_argument(
        "game",
        nargs="?",
        metavar="GAME",
        help=f"file of a game: .kif, .kifu, .csa, .usi, or {GAMES_FILE} of a run. Of a file with "
        "one game a line the last one; FILE:N is that of line N",
    )
    analyze.add_argument(
        "--sfen",
        action="append",
        default=[],
        metavar="POSITION",
        help="a position instead of a game: an SFEN, 'startpos moves 7g7f 3c3d' or "
        "'sfen SFEN moves ...'; may be repeated",
    )
    analyze.add_argument(
        "--simulations",
        type=values.count,
        default=200,
        metavar="N",
        help="how far to search from each position; 0: the network alone. Default: %(default)s",
    )
    _add_json(analyze, "write the findings as JSON to this file as well; -: print JSON instead")
    analyze.add_argument(
        "--kif",
        type=Path,
        metavar="FILE",
        help="write the game with comments for other programs: .kifu is UTF-8, .kif Shift-JIS",
    )
    analyze.add_argument(
        "--html", type=Path, metavar="FILE", help="write the findings as one page with a board"
    )


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument(
        "run_dir",
        nargs="?",
        metavar="RUN_DIR",
        help="run directory, or its URI; default: the newest in runs/",
    )
    report.add_argument("--out", metavar="FILE", help=f"the page; default: RUN_DIR/{REPORT_FILE}")


def _add_status(status: argparse.ArgumentParser) -> None:
    _add_json(status, "write the status as JSON to this file as well; -: print JSON instead")
    _add_watch(status)


def _add_web(web: argparse.ArgumentParser) -> None:
    web.add_argument(
        "runs",
        nargs="*",
        metavar="RUN_DIR|URI",
        help="directory of a run, or with runs in it, or the URI of a run; default: all in runs/",
    )
    web.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at; one that other machines reach needs the token that the "
        "printed URL has. Default: %(default)s",
    )
    web.add_argument(
        "--port",
        type=values.port,
        default=8765,
        metavar="N",
        help="port to listen at; 0: any that is free. Default: %(default)s",
    )
    web.add_argument("--open", action="store_true", help="open the pages in a browser")


def _add_checkpoints(checkpoints: argparse.ArgumentParser) -> None:
    _add_run(checkpoints)
    checkpoints.add_argument(
        "--verify",
        action="store_true",
        help="read every byte and compare it with the manifest; exit code 2 if one differs",
    )
    _add_json(checkpoints, "write the list as JSON to this file as well; -: print JSON instead")


def _add_run(command: argparse.ArgumentParser) -> None:
    """Adds the two ways to name a run's directory."""
    run = command.add_mutually_exclusive_group()
    run.add_argument(
        "named", nargs="?", metavar="RUN_DIR", help="run directory; default: the newest in runs/"
    )
    run.add_argument("--run-dir", metavar="DIR", help="the same as a flag")


def _add_watch(watch: argparse.ArgumentParser) -> None:
    _add_run(watch)
    watch.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="find the run on the Ray cluster at this address (auto: the one that this machine "
        "is a node of), wherever its files are; RUN_DIR is then the end of its path, and any run "
        "will do without it",
    )


def _add_tune(tune: argparse.ArgumentParser) -> None:
    tune.add_argument("--config", metavar="FILE", help="the sweep file, see configs/tune/")
    _add_set(tune, "one setting of the base configuration; may be repeated")
    tune.add_argument(
        "--run-dir",
        metavar="DIR",
        help="directory of the whole sweep; default: runs/tune-<UTC time>",
    )
    tune.add_argument(
        "--resume", action="store_true", help="continue the sweep in --run-dir, or the newest"
    )
    _add_trust(tune, "unpickle what Ray Tune has saved in it")
    _add_address(tune)
    _add_json(tune, "write the results to this file as well")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    _add_settings(bench)
    names = [*values.BENCHES, *values.ALONE_BENCHES]
    bench.add_argument(
        "benches",
        nargs="*",
        type=values.benchmark,
        metavar="BENCHMARK",
        help=f"benchmarks to run, of {', '.join(names)}; default: all but gpu, which needs one, "
        "and learning, which takes hours",
    )
    _add_json(bench, "write the results to this file as well")

    gpu = bench.add_argument_group("gpu", "a GPU's numbers checked against the CPU, and its speed")
    gpu.add_argument(
        "--seconds",
        type=values.seconds,
        default=0.4,
        metavar="S",
        help="length of each measurement",
    )
    gpu.add_argument(
        "--networks",
        type=values.network,
        nargs="+",
        default=[(10, 128), (4, 64), (20, 256)],
        metavar="DEPTHxWIDTH",
        help="networks to measure, the first also in a training run; default: 10x128 4x64 20x256",
    )
    gpu.add_argument(
        "--processes",
        type=values.positive,
        default=None,
        metavar="N",
        help="self-play actors of the training run; default: 6, or as many as leave two cores",
    )

    learning = bench.add_argument_group("learning", "runs from zero, and matches of their networks")
    learning.add_argument(
        "--seeds",
        type=values.seed,
        nargs="+",
        default=[1, 2, 3],
        metavar="S",
        help="one run for each",
    )
    learning.add_argument(
        "--minutes", type=values.minutes, default=20.0, metavar="M", help="length of each run"
    )
    learning.add_argument(
        "--games", type=values.positive, default=200, metavar="N", help="games of each match, even"
    )
    learning.add_argument(
        "--out-dir",
        default="runs/bench-learning",
        metavar="DIR",
        help="directory of runs and matches; those already there are not repeated",
    )


def _add_config(config: argparse.ArgumentParser) -> None:
    _add_settings(config)
    config.add_argument(
        "--describe",
        nargs="?",
        const="",
        metavar="SECTION|KEY",
        help="print what settings mean instead, with default, limits and environment variable: "
        "all of them, or those of a section, e.g. learner, or one, e.g. learner.gamma",
    )


def _add_settings(command: argparse.ArgumentParser) -> None:
    """Adds the routes by which settings are given: a file, single ones, a sweep's choice."""
    command.epilog = ALL_SETTINGS
    command.add_argument("--config", metavar="FILE", help="YAML file with any of the settings")
    _add_set(command, "one setting; may be repeated")
    command.add_argument(
        "--sweep", metavar="FILE", help="settings chosen by a sweep, as JSON; --set overrides them"
    )


def _add_set(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=meaning
    )


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address", metavar="HOST:PORT", help="join the Ray cluster at this address"
    )


def _add_trust(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--trust", action="store_true", help=f"resume what another user has made, and {what}"
    )


def _add_json(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument("--json", metavar="FILE", help=meaning)


def _add_match(command: argparse.ArgumentParser, *, temperature: float) -> None:
    """Adds the flags of a command that plays matches, and what its players are."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = PLAYERS
    command.add_argument(
        "--games",
        type=values.positive,
        default=100,
        metavar="N",
        help="games of each match, even. Default: %(default)s",
    )
    command.add_argument(
        "--seed",
        type=values.seed,
        default=1,
        metavar="S",
        help="seed of openings and random choices",
    )
    command.add_argument(
        "--temperature",
        type=values.temperature,
        default=temperature,
        metavar="T",
        help="how networks choose. 0: the likeliest move; above: sampled from "
        "softmax(logits / T). Default: %(default)s",
    )
    command.add_argument(
        "--openings",
        type=Path,
        metavar="FILE",
        help="opening book to start games from, instead of random plies: one opening a line, "
        "'startpos moves 7g7f 3c3d' or 'sfen SFEN [moves ...]'",
    )


COMMANDS: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "train": ("Train a network by self-play", _add_train),
    "pretrain": ("Train a network on game records", _add_pretrain),
    "evaluate": ("Measure a player's strength by a match", _add_evaluate),
    "ladder": ("Play every player against every other, and rate them all", _add_ladder),
    "generate": ("Play games between two players, as records to learn from", _add_generate),
    "usi": ("Play as a USI engine, for shogi GUIs and matches of engines", _add_usi),
    "export": ("Write a network as a file for other programs", _add_export),
    "analyze": ("Say what a network thinks of a game or of positions", _add_analyze),
    "report": ("Show a run as one page of HTML", _add_report),
    "status": ("Say how far a run is and how it does", _add_status),
    "watch": ("Show the view of a run that was started elsewhere", _add_watch),
    "web": ("Show runs in the browser as they go, and play against them", _add_web),
    "checkpoints": ("List the checkpoints of a run, and verify them", _add_checkpoints),
    "tune": ("Search settings by Ray Tune", _add_tune),
    "bench": ("Measure the speed of the parts, or how fast runs learn", _add_bench),
    "config": ("Print the effective configuration, or what settings mean", _add_config),
}
"""Name of each command -> what it does, and the function that adds its flags."""
