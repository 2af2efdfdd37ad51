"""Start positions of handicap games: White, who moves first, plays without some of its pieces."""

from typing import Final, NamedTuple

from keisei_ray.shogi.game import STANDARD_SFEN


class Handicap(NamedTuple):
    """A start position by name."""

    name: str
    """Name in English."""
    japanese: str
    """Name in Japanese, as KIF has it."""
    sfen: str


def _without(white_ranks: str) -> str:
    """Returns the standard position with other first and second ranks, White to move."""
    rest = STANDARD_SFEN.partition("/ppppppppp")[2].removesuffix(" b - 1")
    return f"{white_ranks}/ppppppppp{rest} w - 1"


HANDICAPS: Final = (
    Handicap("Even game", "平手", STANDARD_SFEN),
    Handicap("Lance", "香落ち", _without("lnsgkgsn1/1r5b1")),
    Handicap("Bishop", "角落ち", _without("lnsgkgsnl/1r7")),
    Handicap("Rook", "飛車落ち", _without("lnsgkgsnl/7b1")),
    Handicap("Rook and lance", "飛香落ち", _without("lnsgkgsn1/7b1")),
    Handicap("Two pieces", "二枚落ち", _without("lnsgkgsnl/9")),
    Handicap("Four pieces", "四枚落ち", _without("1nsgkgsn1/9")),
    Handicap("Six pieces", "六枚落ち", _without("2sgkgs2/9")),
    Handicap("Eight pieces", "八枚落ち", _without("3gkg3/9")),
    Handicap("Ten pieces", "十枚落ち", _without("4k4/9")),
)
"""Handicaps in order of size, the even game first."""
