"""Records at URIs: read as those on the disk are, from a server that speaks the S3 protocol."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import fsspec
import pytest

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import RecordsError
from keisei_ray.records import files
from keisei_ray.records.files import find_pieces
from keisei_ray.records.left_out import Cause, LeftOut, Tally
from keisei_ray.records.reading import read_games
from keisei_ray.records.stream import training_positions
from tests.helpers.record_corpus import (
    csa_by_cshogi,
    hcpe_by_cshogi,
    kif_by_cshogi,
    psv_by_cshogi,
)
from tests.helpers.s3 import S3, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        fsspec.filesystem("s3").clear_instance_cache()
        yield server
        fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    csa_by_cshogi(folder / "a.csa", games=5)
    kif_by_cshogi(folder / "deep" / "b.kif")
    hcpe_by_cshogi(folder / "c.hcpe")
    psv_by_cshogi(folder / "d.psv")
    moves = "7g7f 3c3d 8h2b+ 3a2b"
    line = f'{{"moves": "{moves}", "result": "draw"}}\n'
    (folder / "games.jsonl").write_text(line * 30)
    (folder / "empty.csa").touch()
    (folder / "notes.txt").write_text("none of these")
    return folder


def uploaded(s3: S3, corpus: Path) -> str:
    bucket = s3.bucket()
    for path in corpus.rglob("*.*"):
        name = f"games/{path.relative_to(corpus).as_posix()}"
        s3.client.put_object(Bucket=bucket, Key=name, Body=path.read_bytes())
    return f"s3://{bucket}/games"


@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_a_stream_from_a_uri_is_that_from_the_disk(
    s3: S3, corpus: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(files, "LINE_PIECE_BYTES", 300)
    monkeypatch.setattr(files, "POSITIONS_A_PIECE", 5)
    uri = uploaded(s3, corpus) if scheme == "s3" else f"file://{corpus}"
    streams = [
        training_positions(PretrainConfig(records=(path,), shuffle_positions=20), rows=8, seed=[1])
        for path in (str(corpus), uri)
    ]
    for local, remote in zip(*(islice(stream, 40) for stream in streams), strict=True):
        assert [a.tobytes() for a in local.positions] == [a.tobytes() for a in remote.positions]
        assert local.tally.causes == remote.tally.causes
    assert local.tally.causes[Cause.EMPTY] == local.tally.causes[Cause.UNKNOWN_KIND] == 1


def test_a_uri_may_name_one_file(s3: S3, corpus: Path) -> None:
    uri = uploaded(s3, corpus)
    (piece,) = find_pieces([f"{uri}/c.hcpe"], Tally())
    assert (piece.file, piece.name, piece.start) == (f"{uri}/c.hcpe", "c.hcpe", 0)
    assert len(list(read_games(piece))) == 1


@pytest.mark.parametrize("name", ["", "/nothing", "/nothing.csa"])
def test_a_uri_without_files_is_refused_in_one_line(s3: S3, name: str) -> None:
    with pytest.raises(RecordsError, match="there is no such file or directory"):
        next(find_pieces([f"s3://{s3.bucket()}/games{name}"], Tally()))


def test_a_file_that_vanishes_is_counted(s3: S3, corpus: Path) -> None:
    uri = uploaded(s3, corpus)
    pieces = list(find_pieces([uri], Tally()))
    bucket = uri.split("/")[2]
    s3.client.delete_object(Bucket=bucket, Key="games/a.csa")
    (found,) = read_games(pieces[0])
    assert isinstance(found, LeftOut)
    assert found.cause is Cause.UNREADABLE
    assert found.example == f"{uri}/a.csa is gone"
