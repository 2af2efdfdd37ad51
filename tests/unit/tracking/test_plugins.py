"""Users' own subscribers: how they are named, and that the page about them tells the truth."""

import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.config.subscriber_entries import SubscriberEntry
from keisei_ray.errors import ConfigError
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.plugins import GROUP, load_subscriber
from keisei_ray.tracking.subscribers import build_subscribers
from tests.helpers.consoles import plain_console
from tests.helpers.copied_commands import code_lines, run_arguments
from tests.helpers.run_events import run_started, updated

PAGE = (Path(__file__).parents[3] / "docs" / "subscribers.md").read_text(encoding="utf-8")
MODULE = """
from pydantic import BaseModel
def handle(event):
    pass
class Plain:
    def __call__(self, event):
        pass
class NotCallable:
    pass
class Open:
    class Settings(BaseModel, extra="allow"):
        path: str
    def __init__(self, settings):
        self.settings = settings
    def __call__(self, event):
        pass
class Empty(Open):
    class Settings(BaseModel):
        pass
number = 3
"""
MY = "plugins_for_tests"


def blocks(language: str) -> list[str]:
    """Returns the page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def install(
    site: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str], names: dict[str, str]
) -> None:
    """Puts modules on the path, with entry points as an installed package declares them."""
    info = site / "keisei_plugins_for_tests-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: keisei-plugins-for-tests\n")
    lines = [f"{name} = {reference}" for name, reference in names.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def the_pages_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package and the module of the page are installed."""
    simple, package = blocks("python")
    (project,) = blocks("toml")
    declared = tomllib.loads(project)
    (module,) = declared["tool"]["setuptools"]["py-modules"]
    names = declared["project"]["entry-points"][GROUP]
    install(tmp_path / "site", monkeypatch, {module: package, "my_module": simple}, names)


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"plain": f"{MY}:Plain", "open-one": f"{MY}:Open", "gone": f"{MY}:Gone"}
    install(tmp_path / "site", monkeypatch, {MY: MODULE}, names)


def run(config: Config, run_dir: Path, *, updates: int) -> None:
    """Publishes the events of a run of these many updates to its users' own subscribers."""
    run_dir.mkdir()
    bus = ev.EventBus()
    for subscriber in build_subscribers(
        config, run_dir, bus, resumed_timestep=None, console=plain_console()
    ):
        bus.add(subscriber)
    bus.publish(replace(run_started(), run_dir=str(run_dir)))
    for update in range(1, updates + 1):
        bus.publish(updated(update, entropy=update / 8))
    assert bus.close(timeout_s=20) == ()
    assert bus.failures == {}


# The page


@pytest.mark.usefixtures("the_pages_package")
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, [(f"{u}", f"{u / 8:.4f}") for u in range(1, 21)]),
        (2, [("10", "1.2500"), ("20", "2.5000")]),
    ],
)
def test_the_commands_of_the_page_write_what_it_says(
    tmp_path: Path, number: int, expected: list[tuple[str, str]]
) -> None:
    commands = [arguments for line in code_lines(PAGE) if (arguments := run_arguments(line))]
    flag, override = commands[number]
    assert flag == "--set"
    config = resolve_config(None, {}, [override, "tracking.view=none"], {})
    run(config, tmp_path / "run", updates=20)
    lines = (tmp_path / "run" / "entropy.txt").read_text().splitlines()
    assert [tuple(line.split()) for line in lines] == expected


@pytest.mark.usefixtures("the_pages_package")
def test_the_file_of_the_page_gives_settings_and_the_class_without_any_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = blocks("yaml")
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("my_package.my_module", "my_module"))
    config = resolve_config(str(file), {}, ["tracking.view=none"], {})
    run(config, tmp_path / "run", updates=20)
    lines = (tmp_path / "run" / "entropy-every-10.txt").read_text().splitlines()
    assert lines == ["10 1.2500", "20 2.5000"]
    assert capsys.readouterr().out.split() == [str(update / 8) for update in range(1, 21)]


@pytest.mark.usefixtures("the_pages_package")
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"every_n": 2}, "unknown setting 'every_n'. Did you mean 'every'?"),
        ({"every": 0}, "every = 0: Input should be greater than 0"),
        ({"every": "x", "file_name": 3}, "(and 1 more)"),
    ],
)
def test_settings_that_the_pages_subscriber_does_not_have_are_one_line(
    settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_subscriber({"entropy-log": settings})
    assert str(error.value).startswith("tracking.subscribers entry 'entropy-log': ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# Names and settings


@pytest.mark.usefixtures("my_module")
@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (MY, "package.module:callable"),
        (":handle", "package.module:callable"),
        (f"{MY}:", "package.module:callable"),
        ("no_such_module_here:handle", "no_such_module_here"),
        (f"{MY}:handel", "handel"),
        (f"{MY}:number", "int"),
        (f"{MY}:NotCallable", "NotCallable"),
        ("gone", "has no 'Gone'"),
        ("plain-one", "is not an installed subscriber (entry point group keisei_ray.subscribers: "
         "nearest are plain"),
        ({"plain": {"a": 1}}, "takes no settings"),
        ({f"{MY}:handle": {"a": 1}}, "takes no settings"),
        ({f"{MY}:Empty": {"a": 1}}, "unknown setting 'a'. It takes none."),
        ("open-one", "path: Field required"),
    ],
)  # fmt: skip
def test_a_subscriber_that_cannot_be_loaded_is_a_config_error(
    entry: SubscriberEntry, expected: str
) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.subscribers") as error:
        load_subscriber(entry)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("my_module")
@pytest.mark.parametrize("name", ["open-one", f"{MY}:Open"])
def test_a_model_that_allows_more_gets_more(name: str) -> None:
    subscriber: Any = load_subscriber({name: {"path": "x", "more": [1]}})
    assert subscriber.settings.path == "x"
    assert subscriber.settings.more == [1]


def test_without_an_installed_subscriber_a_name_says_so() -> None:
    with pytest.raises(ConfigError, match=r"keisei_ray\.subscribers: none is installed\)"):
        load_subscriber("entropy-log")


def test_one_name_for_two_subscribers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        install(tmp_path / folder, monkeypatch, {}, {"twice": f"{folder}:Log"})
        info = tmp_path / folder / "keisei_plugins_for_tests-1.0.dist-info"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: keisei-{folder}\n")
        info.rename(info.with_name(f"keisei_{folder}-1.0.dist-info"))
    with pytest.raises(ConfigError, match="'twice' is the name of a:Log and b:Log"):
        load_subscriber("twice")
