"""The command line: reads what was typed, calls the package that does it, returns an exit code.

Each command is one function here. A package is imported by the command that needs it, so that
`config` and `status` do not wait for Ray or torch.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from keisei_ray.argument_values import ALONE_BENCHES, BENCHES
from keisei_ray.arguments import parse_arguments
from keisei_ray.config.describe import describe
from keisei_ray.config.player_spec import checkpoint_text
from keisei_ray.config.resolver import load_sweep, resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError, UserError
from keisei_ray.storage.remote.filesystem import check_uri, is_uri
from keisei_ray.storage.remote.remote_run import fetched_records, refuse_uri
from keisei_ray.storage.result_file import check_result_file, write_result_file
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tracking.terminal.background_stream import background_console

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_HUNG_UP, EXIT_INTERRUPTED = 0, 1, 2, 129, 130
READER_TIMEOUT_S = 10.0
"""Seconds that a run that has ended waits for a reader of its output that stalls."""
ANY_LINE = "."
"""Regular expression of the messages of Ray's raylets that Ray does not print. They tell of dead
processes, as events do; they would come into the view, and the last of them at Ray's end, where a
reader that has left is an error."""


def main(arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit code: 0, 1, 2, 129 or 130 (see docs/run-directory.md)."""
    errors = _Errors(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
    try:
        options = parse_arguments(arguments)
        code = _COMMANDS[options.command](options)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
        return code
    except UserError as error:
        with _telling():
            errors.print(visible(f"{type(error).__name__}: {error}"), style="red")
        return EXIT_USAGE
    except KeyboardInterrupt:
        with _telling():
            errors.print("interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        if ended.code != signal.SIGTERM:
            raise
        # By Ray's handler, which is there until the run sets its own.
        with _telling():
            errors.print("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return EXIT_DONE
    except Exception as error:  # noqa: BLE001  the process border: nothing else handles these
        cause = _fault_of_output() if isinstance(error, OSError) and not error.filename else None
        with _telling():
            if cause:
                errors.print(f"OutputError: standard output cannot be written: {cause}.")
                return EXIT_USAGE
            errors.print_exception(max_frames=20)
        return EXIT_FAILED


def _drop_output() -> None:
    """Sends what Python still holds for a reader that has left nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Errors(Console):
    """Standard error, on which a reader that has left is an error like a full disk."""

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError; rich would end the process with exit code 1."""
        raise BrokenPipeError


class _Output(Console):
    """Standard output; what follows once its reader has left depends on the command.

    A command that writes a file as well goes on to it, silently. Any other one ends.
    """

    def __init__(self, *files: object, highlight: bool = True, quiet: bool = False) -> None:
        super().__init__(highlight=highlight, quiet=quiet)
        self._goes_on = any(files)

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError where the command ends; rich would give it exit code 1."""
        if not self._goes_on:
            raise BrokenPipeError
        self.quiet = True
        _drop_output()


def _fault_of_output() -> str | None:
    """Returns why the standard output cannot be written, as on a full disk; None if it can.

    Tried by an empty line. What Python still holds is dropped then: it would write it at the end.
    """
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")
    except OSError as error:
        _drop_output()
        return error.strerror or str(error)
    return None


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Keeps the exit code right where standard error cannot be written, as on a full disk."""
    try:
        yield
    except OSError:
        # Python writes what is left in its buffer once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _quieten_raylet() -> None:
    """Keeps Ray from printing; called before Ray is imported, which reads the environment then."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ANY_LINE)


def _train(options: argparse.Namespace) -> int:
    _quieten_raylet()
    config = _resolve_training(options)
    if config.pretrain.records:  # A run of `pretrain` goes on, by the command that it has told.
        return _learn_from_records(config, options)
    _say_what_is_started(config)
    from keisei_ray.training.session import train

    with background_console(READER_TIMEOUT_S) as console:
        try:
            outcome = train(config, console, force=options.force, is_trusted=options.trust)
        except BrokenPipeError as error:
            # This console never raises it, so it is not a reader that has left.
            raise RuntimeError("a pipe of the training itself broke") from error
    return _exit_code(outcome.reason, outcome.signum)


def _pretrain(options: argparse.Namespace) -> int:
    _quieten_raylet()
    from keisei_ray.training.pretrain import DEFAULTS

    return _learn_from_records(_resolve_training(options, DEFAULTS), options)


def _learn_from_records(config: Config, options: argparse.Namespace) -> int:
    from keisei_ray.training.pretrain import pretrain

    with background_console(READER_TIMEOUT_S) as console:
        outcome = pretrain(config, console, force=options.force, is_trusted=options.trust)
    return _exit_code(outcome.reason, outcome.signum)


def _exit_code(reason: str, signum: int | None) -> int:
    """The exit code of a run that did not fail."""
    if signum == signal.SIGHUP:
        return EXIT_HUNG_UP
    return EXIT_INTERRUPTED if reason == "interrupted" else EXIT_DONE


def _say_what_is_started(config: Config) -> None:
    """Says on a terminal what comes, before what takes seconds: torch and Ray are loaded next."""
    if not sys.stdout.isatty() or config.tracking.view == "none":
        return
    address = config.cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    ray = "Ray on this machine" if address == "local" else f"from the Ray cluster at {address}"
    text = (
        f"Keisei Ray: starting {ray}, a learner and {config.self_play.num_actors} self-play "
        "actors; the view follows in some 20 s\n"
    )
    sys.stdout.write(visible(text.rstrip("\n")) + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    """Prints a line before a run begins; a reader that stalls or has left does not hold it up."""
    with background_console(READER_TIMEOUT_S) as console:
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def _evaluate(options: argparse.Namespace) -> int:
    from keisei_ray.evaluation.command import EvaluateOptions, evaluate
    from keisei_ray.evaluation.sprt import Hypotheses

    check_result_file(options.json)
    result = evaluate(
        EvaluateOptions(
            player=options.player or checkpoint_text(options.checkpoint),
            opponent=options.opponent,
            num_games=options.games,
            seed=options.seed,
            temperature=options.temperature,
            finish_mates=options.finish_mates,
            sprt=Hypotheses.parse(options.sprt) if options.sprt else None,
            records=Path(options.records) if options.records else None,
            kif_encoding=options.kif_encoding,
            openings=options.openings,
        ),
        _Output(options.json, options.records),
    )
    write_result_file(options.json, result)
    if result["error"]:
        raise UserError(result["error"])
    return EXIT_INTERRUPTED if result["interrupted"] else EXIT_DONE


def _generate(options: argparse.Namespace) -> int:
    from keisei_ray.evaluation.generate import GenerateOptions, generate

    check_result_file(options.json)
    result = generate(
        GenerateOptions(
            player=options.player,
            opponent=options.opponent,
            out=Path(options.out),
            num_games=options.games,
            seed=options.seed,
            opening_plies=options.opening_plies,
            openings=options.openings,
            max_plies=options.max_plies,
            temperature=options.temperature,
            formats=tuple(options.formats),
        ),
        _Output(options.json, options.out),
    )
    write_result_file(options.json, result)
    if result["error"]:
        raise UserError(result["error"])
    return EXIT_INTERRUPTED if result["interrupted"] else EXIT_DONE


def _analyze(options: argparse.Namespace) -> int:
    from keisei_ray.analysis.command import AnalyzeOptions, analyze

    console = _console_beside_json(options.json, options.kif, options.html)
    result = analyze(
        AnalyzeOptions(
            checkpoint=options.checkpoint,
            game=options.game,
            sfens=options.sfen,
            simulations=options.simulations,
            kif=options.kif,
            html=options.html,
        ),
        console,
    )
    _write_json(options.json, result)
    return EXIT_DONE


def _ladder(options: argparse.Namespace) -> int:
    from keisei_ray.evaluation.ladder import LadderOptions, ladder

    refuse_uri("ladder --run-dir", options.run_dir)
    check_result_file(options.json)
    _, interrupted = ladder(
        LadderOptions(
            players=options.players,
            run_dir=Path(options.run_dir) if options.run_dir else None,
            finish_mates=options.finish_mates,
            num_games=options.games,
            seed=options.seed,
            temperature=options.temperature,
            file=Path(options.json) if options.json else None,
            openings=options.openings,
        ),
        _Output(options.json),
    )
    return EXIT_INTERRUPTED if interrupted else EXIT_DONE


def _usi(options: argparse.Namespace) -> int:
    from keisei_ray.usi.command import serve, typed_options

    return serve(typed_options(options.checkpoint, options.option))


def _export(options: argparse.Namespace) -> int:
    from keisei_ray.export.command import export

    done = export(options.checkpoint, options.format, Path(options.output))
    sys.stdout.write(f"{done}\n")
    return EXIT_DONE


def _report(options: argparse.Namespace) -> int:
    from keisei_ray.report.command import write_report

    out = Path(options.out) if options.out else None
    if options.run_dir is None:
        from keisei_ray.status.command import find_run

        file = write_report(find_run(None), out)
    elif not is_uri(options.run_dir):
        file = write_report(Path(options.run_dir), out)
    elif out is None:
        uri = check_uri(options.run_dir)
        raise ConfigError(f"report {uri}: expected --out FILE with a URI. Name one.")
    else:
        with fetched_records(options.run_dir) as run_dir:
            file = write_report(run_dir, out)
    sys.stdout.write(f"{file}\n")
    return EXIT_DONE


def _status(options: argparse.Namespace) -> int:
    from keisei_ray.status import command, run_status

    named = options.named or options.run_dir
    refuse_uri("status", named)
    console = _console_beside_json(options.json)
    if options.address is not None:
        from keisei_ray.status.remote import show_status

        seen = show_status(options.address, named, console)
    else:
        seen = run_status.as_json(command.show_status(command.find_run(named), console))
    _write_json(options.json, seen)
    return EXIT_DONE


def _console_beside_json(file: str | None, *others: Path | None) -> Console:
    """Returns a console for what is shown besides `--json FILE`; silent if that is stdout.

    Args:
        file: the value of `--json`.
        others: further files that the command writes.

    Raises:
        ConfigError: the file cannot be written.
    """
    check_result_file(None if file == "-" else file)
    return _Output(file, *others, highlight=False, quiet=file == "-")


def _write_json(file: str | None, result: object) -> None:
    """Writes a result where `--json` says: nowhere, to a file, or for - to stdout."""
    if file == "-":
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        write_result_file(file, result)


def _checkpoints(options: argparse.Namespace) -> int:
    from keisei_ray.status import checkpoints
    from keisei_ray.status.command import find_run

    named = options.named or options.run_dir
    refuse_uri("checkpoints", named)
    console = _console_beside_json(options.json)
    run_dir = find_run(named)
    found = checkpoints.show_checkpoints(run_dir, console, verify=options.verify)
    _write_json(options.json, checkpoints.as_json(run_dir, found))
    if options.verify:
        checkpoints.refuse_unusable(found)
    return EXIT_DONE


def _watch(options: argparse.Namespace) -> int:
    from keisei_ray.status import command

    refuse_uri("watch", options.named or options.run_dir)
    named = options.named or options.run_dir
    if options.address is not None:
        from keisei_ray.status.remote import watch

        watch(options.address, named, _Output())
    else:
        command.watch(command.find_run(named), _Output())
    return EXIT_DONE


def _web(options: argparse.Namespace) -> int:
    from keisei_ray.web.command import WebOptions, serve

    return serve(WebOptions(options.runs, options.host, options.port, options.open))


def _tune(options: argparse.Namespace) -> int:
    refuse_uri("tune --run-dir", options.run_dir)
    _quieten_raylet()
    from keisei_ray.tune.command import TuneOptions, run

    typed = TuneOptions(
        config=options.config,
        overrides=options.set,
        run_dir=options.run_dir,
        is_resumed=options.resume,
        address=options.address,
        json=options.json,
        is_trusted=options.trust,
    )
    with background_console(READER_TIMEOUT_S) as console:
        is_done = run(typed, os.environ, console)
    return EXIT_DONE if is_done else EXIT_INTERRUPTED


def _bench(options: argparse.Namespace) -> int:
    from keisei_ray.bench.command import run_benchmarks

    check_result_file(options.json)
    config = _resolve(options)
    console = _Output(options.json)
    alone = [name for name in options.benches if name in ALONE_BENCHES]
    if alone and options.benches != alone[:1]:
        raise ConfigError(f"bench {alone[0]} is run alone; leave the others out.")
    if alone == ["learning"]:
        result = _bench_learning(options, config, console)
    elif alone == ["gpu"]:
        result = _bench_gpu(options, config, console)
    else:
        result = run_benchmarks(options.benches or list(BENCHES), config, console)
    write_result_file(options.json, result)
    return EXIT_FAILED if result.get("failed") else EXIT_DONE


def _bench_gpu(options: argparse.Namespace, config: Config, console: Console) -> dict[str, object]:
    """The benchmark of a GPU. A check that fails is in its table; the exit code says so too."""
    _quieten_raylet()
    from keisei_ray.bench.gpu import require_cuda, run_gpu_benchmark
    from keisei_ray.bench.gpu_rates import Sizes

    most = max(1, (os.cpu_count() or 1) - 2)
    actors = min(most, options.processes or Sizes.actors)
    sizes = Sizes(seconds=options.seconds, actors=actors)
    return run_gpu_benchmark(config, sizes, console, require_cuda(), options.networks)


def _bench_learning(
    options: argparse.Namespace, config: Config, console: Console
) -> dict[str, object]:
    """The learning benchmark: hours, so it is run alone and only when asked for."""
    from keisei_ray.bench.learning import run_learning

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
    if options.describe is None:
        sys.stdout.write(_resolve(options).model_dump_json(indent=2) + "\n")
    elif options.config or options.set or options.sweep:
        raise ConfigError("--describe takes no values: leave --config, --set and --sweep out.")
    else:
        sys.stdout.write(describe(options.describe))
    return EXIT_DONE


def _resolve(options: argparse.Namespace) -> Config:
    return _merge(options, options.config, {})


def _merge(
    options: argparse.Namespace,
    file: str | None,
    flags: Mapping[str, object],
    defaults: Mapping[str, object] = MappingProxyType({}),
    *,
    is_saved: bool = False,
) -> Config:
    sweep = load_sweep(options.sweep) if options.sweep else {}
    return resolve_config(
        file, os.environ, options.set, flags, sweep, defaults=defaults, is_saved=is_saved
    )


def _resolve_training(
    options: argparse.Namespace, defaults: Mapping[str, object] = MappingProxyType({})
) -> Config:
    """The run's configuration; a resumed run starts from the one it was saved with."""
    if options.init_from is not None and options.resume is not None:
        raise ConfigError(
            "--init-from starts a fresh run, --resume goes on with one. Leave out one of the two."
        )
    is_named = options.resume not in (None, "latest")
    if is_named and os.path.isdir(Path(options.resume) / CHECKPOINTS_DIR):
        # A run, as in `evaluate --checkpoint runs/NAME`: its newest checkpoint.
        if options.run_dir is None:
            options.run_dir, options.resume = options.resume, "latest"
        else:
            from keisei_ray.players.saved_model import find_checkpoint

            found = find_checkpoint(Path(options.resume), skips_unreadable=False)
            options.resume = str(found.path)
    flags: dict[str, object] = {
        "self_play.num_actors": options.num_actors,
        "run.total_timesteps": options.total_timesteps,
        "run.run_dir": options.run_dir,
        "run.seed": options.seed,
        "run.resume": options.resume,
        "run.init_from": options.init_from,
        "cluster.address": options.address,
        "pretrain.records": getattr(options, "records", None),
    }
    if options.resume is None:
        return _merge(options, options.config, flags, defaults)
    from keisei_ray.training.run_start import init_from_in, settings_to_resume_with

    with settings_to_resume_with(options.run_dir, options.resume, _say) as file:
        if options.config is None:
            return _merge(options, file, flags, defaults, is_saved=True)
        # Other settings do not change what the run has begun with.
        begun = {"run.init_from": init_from_in(file)}
    return _merge(options, options.config, flags, {**defaults, **begun})


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "pretrain": _pretrain,
    "evaluate": _evaluate,
    "ladder": _ladder,
    "generate": _generate,
    "usi": _usi,
    "export": _export,
    "analyze": _analyze,
    "report": _report,
    "status": _status,
    "watch": _watch,
    "web": _web,
    "checkpoints": _checkpoints,
    "tune": _tune,
    "bench": _bench,
    "config": _config,
}
"""Name of each command, as in `arguments.COMMANDS` -> the function that runs it."""
