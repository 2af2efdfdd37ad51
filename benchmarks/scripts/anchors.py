"""Measures the Elo of the scripted players over random, the steps of the scale of all Elo tables.

    python benchmarks/scripts/anchors.py --games 400 --json benchmarks/results/anchors.json

Each of them plays the next and the one after the next; who is further apart would win all games.
The Elos that are printed stand in `KNOWN_ELOS` of `keisei_ray/evaluation/elo_table.py`.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from keisei_ray.evaluation.elo_table import Result, fit_ratings
from keisei_ray.evaluation.matches import MatchSettings, match_score, play_match
from keisei_ray.players.player import open_player

PLAYERS = (
    "random",
    "random+mate1",
    "greedy?random=0.75",
    "greedy?random=0.5",
    "greedy?random=0.25",
    "greedy",
    "greedy2?random=0.3",
    "greedy2?random=0.15",
    "greedy2",
)
MAX_PLIES = 320
"""As in the background evaluation."""


def main() -> None:
    """Plays, prints the table, and writes results and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    matches = []
    for distance in (1, 2):
        for weaker, stronger in zip(PLAYERS, PLAYERS[distance:], strict=False):
            seed = 1000 * distance + PLAYERS.index(weaker)
            settings = MatchSettings(options.games, seed, max_plies=MAX_PLIES)
            started = time.perf_counter()
            games = list(play_match((open_player(stronger), open_player(weaker)), settings))
            score = match_score(games, wall_time_s=time.perf_counter() - started)
            matches.append({"player": stronger, "opponent": weaker, **asdict(score)})
            print(stronger, "against", weaker, f"{score.score:.3f}", score.pairs, flush=True)
            results = [
                Result(
                    m["player"],
                    m["opponent"],
                    m["wins"],
                    m["draws"] + m["truncated"],
                    m["losses"],
                    m["pairs"],
                )
                for m in matches
            ]
    ratings = [asdict(rating) for rating in fit_ratings(results, known={})]
    for rating in ratings:
        print(
            f"{rating['name']:24} {rating['elo']:8.1f} {rating['low']:8.1f} {rating['high']:8.1f}"
        )
    if options.json:
        options.json.write_text(
            json.dumps({"matches": matches, "ratings": ratings}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
