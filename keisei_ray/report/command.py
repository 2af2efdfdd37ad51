"""The `report` command: writes a run directory as an HTML file."""

from pathlib import Path

from keisei_ray.errors import ConfigError
from keisei_ray.report.page import DOCTYPE, render
from keisei_ray.report.run_files import read_run
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.result_file import check_output_file
from keisei_ray.storage.run_layout import REPORT_FILE


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the page of a run.

    Args:
        run_dir: a run's directory; the run may still be going.
        out: the page's file, replaced if it holds a page; `report.html` in `run_dir` if None.

    Returns:
        The file.

    Raises:
        RunDirError: `run_dir` is not a run's directory or cannot be read.
        ConfigError: the file cannot be written, or exists and is not a page.
    """
    file = run_dir / REPORT_FILE if out is None else out
    run = read_run(run_dir)
    check_page_file(file)
    write_page(file, render(run))
    return file


def write_page(file: Path, page: str, flag: str = "--out") -> None:
    """Writes a page in one step.

    Raises:
        ConfigError: it cannot be written. The message names `flag`.
    """
    try:
        write_atomically(file, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigError(f"{flag} {file}: cannot be written: {error.strerror}.") from error


def check_page_file(file: Path, flag: str = "--out") -> None:
    """Refuses a file that a page cannot be written to.

    Raises:
        ConfigError: it cannot be written, or exists and is not a page. The message names `flag`.
    """
    check_output_file(file, flag)
    if not file.exists():
        return
    try:
        with file.open("rb") as page:
            is_page = file.is_file() and page.read(len(DOCTYPE)) in (b"", DOCTYPE.encode())
    except OSError as error:
        raise ConfigError(f"{flag} {file}: cannot be read: {error.strerror}.") from error
    if not is_page:
        raise ConfigError(f"{flag} {file}: exists and is not a page. Name another file.")
