"""Standard output whose reader stalls or leaves: the writer goes on. Real pipes and terminals."""

import logging
import os
import select
import threading
import time

import pytest

from keisei_ray.tracking.terminal.background_stream import BackgroundStream
from keisei_ray.tracking.terminal.lines import LinesView
from tests.helpers.run_events import run_started, updated
from tests.helpers.waiting import wait_until

PATIENCE_S = 10.0


def read_all(descriptor: int) -> bytes:
    content = b""
    while part := os.read(descriptor, 1 << 16):
        content += part
    return content


def test_a_reader_gets_every_text_in_order() -> None:
    reader, writer = os.pipe()
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read_all(reader)))
    thread.start()
    stream = BackgroundStream(writer, "ascii")
    texts = [f"{number} {'x' * 1000}\n" for number in range(300)]
    for text in texts:
        assert stream.write(text) == len(text)
    stream.write("\u5c06\n")
    stream.finish(PATIENCE_S)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert got[0].decode() == "".join(texts) + "?\n"


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_what_is_missed_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader, writer = os.pipe()
    stream = BackgroundStream(writer, "utf-8", waiting=10)
    view = LinesView(stream.console(), time.monotonic)
    view.handle(run_started())
    for update in range(1000):  # A pipe holds the lines of 160 updates.
        view.handle(updated(update))
    stream.finish(0.1)
    os.close(writer)
    shown = read_all(reader).decode()
    os.close(reader)
    assert shown.count("update=") >= 9  # At least what waits at the end: ten texts, one a notice.
    (missed,) = [r.args for r in caplog.records if "too slowly" in r.message]
    assert isinstance(missed, tuple)
    assert isinstance(missed[0], int)
    # Of 1,001 texts. Where the pipe fills, those that still wait at the end are in neither number.
    assert 985 <= missed[0] + shown.count("\n") <= 1001


def test_what_was_given_up_is_not_written_afterwards() -> None:
    """By then the descriptor's number may belong to another file."""
    reader, writer = os.pipe()
    stream = BackgroundStream(writer, "utf-8")
    stream.write("x" * 1_000_000)  # A pipe holds 64 KiB.
    stream.finish(0.1)
    held = 0
    while select.select([reader], [], [], 0.3)[0]:
        held += len(os.read(reader, 1 << 16))
    assert 0 < held <= 1 << 16
    os.close(writer)
    os.close(reader)


def test_a_reader_that_leaves_is_logged_once_and_all_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = BackgroundStream(writer, "utf-8")
    console = stream.console()
    console.print("one")
    wait_until(lambda: caplog.records)
    for number in range(100):
        console.print(number)
    stream.finish(PATIENCE_S)
    os.close(writer)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Broken pipe" in record.message


def test_a_terminal_that_is_closed_is_a_reader_that_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    terminal, device = os.openpty()
    stream = BackgroundStream(device, "utf-8")
    console = stream.console()
    assert console.is_terminal
    console.print("one")
    assert os.read(terminal, 100) == b"one\r\n"
    os.close(terminal)
    console.print("two")
    wait_until(lambda: caplog.records)
    stream.finish(PATIENCE_S)
    os.close(device)
    assert "Input/output error" in caplog.records[0].message


def test_a_terminal_that_is_halted_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """As by Ctrl-S, or a program that has stopped reading its terminal."""
    terminal, device = os.openpty()
    stream = BackgroundStream(device, "utf-8", waiting=10)
    for _ in range(1000):
        stream.write("x" * 100 + "\n")
    stream.finish(0.1)
    assert any("too slowly" in record.message for record in caplog.records)
    os.close(terminal)
    os.close(device)
