"""One writer for a run at a URI: a heartbeat is seen, refused, outlived and removed."""

import subprocess
import sys
from dataclasses import replace

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.storage.remote import remote_lock as module
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.remote.remote_lock import remote_lock
from keisei_ray.storage.run_lock import Owner
from tests.helpers.remote_runs import InterruptedFileSystem, new_uri


@pytest.fixture
def storage() -> Storage:
    return Storage(new_uri(), InterruptedFileSystem())


@pytest.fixture
def said() -> list[str]:
    return []


def gone() -> Owner:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Owner.new(), pid=process.pid)


def elsewhere() -> Owner:
    return replace(Owner.new(), host="node-7", machine="another", pid=4242)


def test_a_session_that_beats_is_named_and_keeps_its_run(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    with remote_lock(storage, print):
        first = Owner.read(storage.read(".lock"))
        with pytest.raises(RunDirError, match="a run is going on there, of process") as refusal:
            remote_lock(storage, print).__enter__()
        assert storage.uri in str(refusal.value)
        now = Owner.read(storage.read(".lock"))
        assert first is not None
        assert now is not None
        assert now.token == first.token
    assert storage.read(".lock") is None


def test_a_session_that_ended_on_this_machine_is_not_waited_for(storage: Storage) -> None:
    storage.write(".lock", gone().record(3))
    with remote_lock(storage, pytest.fail):
        pass


def test_a_heartbeat_that_stands_still_is_taken_over(
    storage: Storage, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    storage.write(".lock", elsewhere().record(3))
    with remote_lock(storage, said.append):
        found = Owner.read(storage.read(".lock"))
        assert found is not None
        assert found.host != "node-7"
    assert len(said) == 1
    assert "process 4242 on node-7" in said[0]


def test_the_heartbeat_of_a_session_that_began_later_is_left_alone(storage: Storage) -> None:
    later = elsewhere().record(1)
    with remote_lock(storage, pytest.fail):
        storage.write(".lock", later)
    assert storage.read(".lock") == later


def test_a_uri_out_of_reach_stops_no_run(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heartbeat is tried again, and what is left of it does not delay the end."""

    def broken(*_: object) -> None:
        raise OSError("no network")

    with remote_lock(storage, pytest.fail):
        monkeypatch.setattr(storage._fs, "trouble", broken)
        monkeypatch.setattr(storage._fs, "cat_file", broken)
