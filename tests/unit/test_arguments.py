"""Command lines as they are typed: which are accepted, and how the others are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from keisei_ray import cli
from keisei_ray.arguments import COMMANDS, parse_arguments
from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from keisei_ray.storage import checkpoint
from keisei_ray.training.session import Outcome

ROOT = Path(__file__).parents[2]


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command line is refused."""
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["--num-actor", "3"], "--num-actors"),
        (["--num_actors=3"], "--num-actors"),
        (["--totaltimesteps", "5000"], "--total-timesteps"),
        (["--sett", "run.seed=3"], "--set"),
        (["-seed", "3"], "--seed"),
        (["--hlep"], "--help"),
        (["train", "--resum"], "--resume"),
        (["evaluate", "--chekpoint", "x", "--oponent", "random"], "--checkpoint"),
        (["ladder", "--player", "random"], "--players"),
        (["pretrain", "--record", "x"], "--records"),
        (["generate", "--format", "csa"], "--formats"),
        (["usi", "--checkpiont", "runs/x"], "--checkpoint"),
        (["export", "--chekpoint", "x"], "--checkpoint"),
        (["analyze", "game.kif", "--simulation", "9"], "--simulations"),
        (["report", "runs/x", "--output", "x.html"], "--out"),
        (["status", "--adress", "auto"], "--address"),
        (["checkpoints", "--verifi"], "--verify"),
        (["web", "--prot", "8000"], "--port"),
        (["watch", "--rundir", "runs/x"], "--run-dir"),
        (["tune", "--conf", "x.yaml"], "--config"),
        (["bench", "learning", "--seed", "3"], "--seeds"),
        (["config", "--st", "run.seed=3"], "--set"),
    ],
)
def test_a_mistyped_flag_is_answered_with_the_nearest(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = next(word for word in arguments if word.startswith("-")).partition("=")[0]
    command = arguments[0] if arguments[0] in COMMANDS else "train"
    assert refusal(arguments, capsys) == (
        f"ConfigError: unknown flag '{typed}'. Did you mean '{nearest}'? "
        f"See run.py {command} --help."
    )


def test_flags_of_every_command_are_checked() -> None:
    """The table above has a row for each."""
    (rows,) = test_a_mistyped_flag_is_answered_with_the_nearest.pytestmark  # type: ignore[attr-defined]
    typed = {arguments[0] for arguments, _ in rows.args[1]}
    assert set(COMMANDS) - typed == set()


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--learning-rate", "0.001"], "--set learner.learning_rate=VALUE"),
        (["--learner.gamma=0.9"], "--set learner.gamma=VALUE"),
        (["bench", "--num-actors", "3"], "--set self_play.num_actors=VALUE"),
        (
            ["--num-cpus", "3"],
            "--set evaluation.num_cpus=VALUE or --set cluster.num_cpus=VALUE",
        ),
    ],
)
def test_a_setting_typed_as_a_flag_is_answered_with_how_to_give_it(
    arguments: list[str], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"It is a setting: {given}." in refusal(arguments, capsys)


@pytest.mark.parametrize(
    ("typed", "nearest"), [("tarin", "train"), ("eval", "evaluate"), ("settings", "status")]
)
def test_a_mistyped_command_is_answered_with_the_nearest(
    typed: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal([typed, "--json", "x"], capsys)
    assert f"unknown command '{typed}'. Did you mean '{nearest}'?" in line
    assert line.endswith(f"The commands are {', '.join(COMMANDS)}.")


def test_a_process_refuses_a_mistyped_flag_in_one_line_and_exit_2() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "--num-actor", "3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "Did you mean '--num-actors'?" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["configs/debug.yaml", "--seed", "3"], "unknown command 'configs/debug.yaml'"),
        (["train", "configs/debug.yaml"], "unexpected argument 'configs/debug.yaml'"),
        (["train", "--seed"], "--seed: expected one argument"),
        (["evaluate", "--player", "random"], "--opponent"),
        (["ladder", "--games", "0"], "--games: '0' is not a positive whole number"),
        (["ladder", "--games", "many"], "--games: 'many' is not a positive whole number"),
        (["ladder", "--seed", "-1"], "--seed: '-1' is not a whole number, 0 or more"),
        (["ladder", "--temperature", "1000"], "'1000' is not 0, or from 0.01 to 100"),
        (["ladder", "--temperature", "nan"], "'nan' is not 0, or from 0.01 to 100"),
        (["bench", "learning", "--minutes", "inf"], "not a positive number of minutes"),
        (["bench", "lerner"], "'lerner' is not a benchmark, did you mean 'learner'?"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(arguments, capsys)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse_arguments([*command.split(), "--help"])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["bench", "-h"]])
def test_help_points_to_the_description_of_all_settings(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 0
    assert "run.py config --describe" in " ".join(capsys.readouterr().out.split())


def test_every_flag_of_train_is_a_setting() -> None:
    given = [
        *("--num-actors", "3", "--total-timesteps", "5000", "--run-dir", "runs/x"),
        *("--seed", "7", "--resume", "latest", "--address", "10.0.0.1:6379"),
    ]
    config = cli._resolve_training(parse_arguments(["train", *given]))
    assert (config.self_play.num_actors, config.run.total_timesteps) == (3, 5000)
    assert (config.run.run_dir, config.run.seed, config.run.resume) == ("runs/x", 7, "latest")
    assert config.cluster.address == "10.0.0.1:6379"


def test_a_resume_starts_from_the_settings_in_the_checkpoint_unless_a_file_is_given(
    tmp_path: Path,
) -> None:
    for name, seed in (("run.json", 3), ("checkpoint.json", 4)):
        saved = Config.model_validate({"run": {"seed": seed, "total_timesteps": 77}})
        (tmp_path / name).write_text(saved.model_dump_json())
    run_dir = tmp_path / "run"
    files = {"config.json": (tmp_path / "checkpoint.json").read_bytes()}
    path = checkpoint.save(run_dir / "checkpoints", 10, files, {})
    (run_dir / "config.json").write_text("damaged")

    def seed_of(*given: str) -> int:
        config = cli._resolve_training(parse_arguments(["train", *given]))
        assert config.run.total_timesteps == 77
        return config.run.seed

    assert seed_of("--resume", "latest", "--run-dir", str(run_dir)) == 4
    assert seed_of("--resume", str(path)) == 4
    given = ("--config", str(tmp_path / "run.json"))
    assert seed_of("--resume", "latest", "--run-dir", str(run_dir), *given) == 3
    assert seed_of("--resume", str(path), "--seed", "5") == 5


@pytest.mark.parametrize("force", [False, True])
def test_force_reaches_the_run(force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: Config, console: object, **options: bool) -> Outcome:
        assert options == {"force": force, "is_trusted": False}
        return Outcome("done", 0, Path(), None)

    monkeypatch.setattr("keisei_ray.training.session.train", train)
    assert main(["train", *(["--force"] if force else [])]) == 0


@pytest.mark.parametrize("given", ["many", "Auto", "1.5", ""])
def test_a_number_of_actors_is_a_number_or_auto(given: str) -> None:
    with pytest.raises(ConfigError, match=f"'{given}' is neither a number nor auto"):
        parse_arguments(["train", f"--num-actors={given}"])
    assert parse_arguments(["train", "--num-actors=auto"]).num_actors == "auto"
    assert parse_arguments(["train", "--num-actors=auto:0.5"]).num_actors == "auto:0.5"


def test_the_first_help_page_has_the_flags_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    page = capsys.readouterr().out
    flags = page.partition("flags of train, which is the command if none is named:")[2]
    for flag in ("--num-actors N|auto", "--config FILE", "--run-dir DIR", "--resume"):
        assert flag in flags
    assert page.count("--help ") == 1
    assert "run.py config --describe" in flags
