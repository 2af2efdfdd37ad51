"""Findings as comments in KIF, read back by three programs of others."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from keisei_ray.analysis.findings import Findings, find
from keisei_ray.analysis.kif import annotated
from keisei_ray.analysis.source import Source
from keisei_ray.analysis.turning_points import TurningPoint, turning_points
from keisei_ray.search.score import centipawns
from keisei_ray.shogi.record_reader import read_kif
from tests.helpers.analyses import evaluate, findings_of, game_source
from tests.helpers.record_readers import (
    comments_by_cshogi,
    comments_by_tsshogi,
    has_tsshogi,
    read_by_cshogi,
    read_by_python_shogi,
    read_by_tsshogi,
)

NAMES = {"black": "先手の人", "white": "v3 <b>"}
MOVES = "7g7f 3c3d 8h2b+ 3a2b B*4e"
HANDICAP = "lnsgkgsnl/7b1/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL w - 1"


def analyzed(source: Source) -> tuple[list[Findings], list[TurningPoint]]:
    findings = list(find(source.positions, evaluate, 12))
    return findings, turning_points(findings, source.moves, least_loss=0.0)


@pytest.mark.parametrize("suffix", ["kif", "kifu"])
@pytest.mark.parametrize(
    "source",
    [game_source(MOVES, **NAMES), game_source("3c3d 7g7f", HANDICAP, **NAMES)],
    ids=["even", "handicap"],
)
def test_other_programs_read_the_same_moves_and_the_comments(
    tmp_path: Path, source: Source, suffix: str
) -> None:
    findings, points = analyzed(source)
    assert points
    file = tmp_path / f"game.{suffix}"
    text = annotated(source, findings, points, "step-000000000007")
    file.write_text(text, encoding="utf-8" if suffix == "kifu" else "cp932")
    readers = [read_by_cshogi, *([read_by_python_shogi] if suffix == "kif" else [])]
    games = [read(file) for read in readers]
    comments = [comments_by_cshogi(file)]
    if has_tsshogi():
        games += read_by_tsshogi([file])
        comments.append(comments_by_tsshogi(file))
    for game in games:
        assert game.moves == " ".join(source.moves)
        assert game.names == [source.black, source.white]
    for of_ply in comments:
        assert len(of_ply) == len(source.moves) + 1
        for here, comment in zip(findings, of_ply, strict=True):
            assert f"Black's chance {here.black_chance:.1%}" in comment
            assert f"#評価値={centipawns(2 * here.black_chance - 1)}\n" in comment
            assert "#エンジン=Keisei Ray step-000000000007" in comment
        for point in points:
            assert f"cost {point.color.capitalize()} {point.loss:.0%}" in of_ply[point.ply]


def test_shogihome_finds_score_and_line_from_black_s_view() -> None:
    source = game_source(MOVES)
    found = findings_of(source, [0.5, 0.75, 0.25, 0.5, 0.5, 0.5], ["2g2f", *["3c3d"] * 5])
    found[1:] = [replace(here, moves=()) for here in found[1:]]
    found[2:4] = [replace(here, proof="lost") for here in found[2:4]]
    text = annotated(source, found, [], "net")
    assert re.findall("^\\*#(?:評価値|詰み)=(.*)$", text, re.MULTILINE) == [
        "0", "659", "後手勝ち", "先手勝ち", "0", "0",
    ]  # fmt: skip
    assert "*#読み筋=▲２六歩\n" in text


def test_comments_and_variations_that_are_there_stay() -> None:
    record = (
        "手合割：平手\n先手：A\n手数----指手--\n*before\n   1 ７六歩(77)\n*good\n&mark\n"
        "   2 ３四歩(33)\n   3 投了\n\n変化：2手\n   2 ８四歩(83)\n*other\n"
    )
    source = replace(game_source("7g7f 3c3d"), kif=read_kif(record).kif)
    findings, points = analyzed(source)
    text = annotated(source, findings, points, "net")
    added = text.splitlines()
    kept = record.splitlines()
    for line in kept:
        added.remove(line)
    assert all(line.startswith("*") for line in added)
    assert text.index("*before") < text.index(findings_line(findings[0]))
    assert text.index("&mark") < text.index(findings_line(findings[1])) < text.index("   2 ３四歩")
    assert text.endswith("   3 投了\n\n変化：2手\n   2 ８四歩(83)\n*other\n")


def findings_line(findings: Findings) -> str:
    return f"*Black's chance {findings.black_chance:.1%}"


def test_a_fault_is_told_after_the_last_move() -> None:
    source = replace(game_source("7g7f"), fault="line 3: move 2 '\x1b[2J' is not legal")
    findings, points = analyzed(source)
    text = annotated(source, findings, points, "net")
    assert "*The analysis ends here: line 3: move 2 '\\x1b[2J' is not legal.\n" in text
