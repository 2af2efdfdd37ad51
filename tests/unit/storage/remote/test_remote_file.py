"""Reading of a file below a URI: ranges, seeking, attempts, failures."""

import io
from typing import Any

import pytest
import tenacity

from keisei_ray.errors import StorageError
from keisei_ray.storage.remote import remote_file
from keisei_ray.storage.remote.remote_file import open_remote

CONTENT = bytes(range(256)) * 40


class Ranges:
    """A storage of one file that fails some times, and counts what it is asked for."""

    uri = "s3://bucket/games"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.asked: list[tuple[int, int]] = []

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        self.asked.append((start, stop))
        if self.failures:
            self.failures -= 1
            raise StorageError("cannot read s3://bucket/games/a: TimeoutError")
        return CONTENT[start:stop] if name == "a" else None


def opened(storage: Any, name: str = "a", size: int = len(CONTENT)) -> Any:
    return open_remote(storage, name, size, back_off=tenacity.wait_none())


def test_any_part_is_read_as_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "BUFFER_BYTES", 100)
    storage = Ranges()
    with opened(storage) as file:
        expected = io.BytesIO(CONTENT)
        for where, count in ((0, 10), (5000, 3000), (130, 1), (len(CONTENT) - 5, 50)):
            assert file.seek(where) == expected.seek(where)
            assert file.read(count) == expected.read(count)
            assert file.tell() == expected.tell()
        file.seek(0)
        expected.seek(0)
        assert list(file) == list(expected)
    assert max(stop for _, stop in storage.asked) == len(CONTENT)


def test_no_more_is_asked_for_than_is_read() -> None:
    storage = Ranges()
    with opened(storage, size=1000) as file:
        assert storage.asked == []
        assert file.read() == CONTENT[:1000]
    assert storage.asked[0] == (0, 1000)
    assert len(storage.asked) == 1


def test_a_request_is_made_again_where_it_fails() -> None:
    storage = Ranges(failures=remote_file.ATTEMPTS - 1)
    with opened(storage) as file:
        assert file.read(7) == CONTENT[:7]
    with (
        opened(Ranges(failures=remote_file.ATTEMPTS)) as file,
        pytest.raises(StorageError, match="TimeoutError"),
    ):
        file.read(7)


def test_a_file_that_is_gone_is_not_asked_for_again() -> None:
    storage = Ranges()
    with opened(storage, "b") as file, pytest.raises(StorageError, match="games/b is gone"):
        file.read(7)
    assert len(storage.asked) == 1
