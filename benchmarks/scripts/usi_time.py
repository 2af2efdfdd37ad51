"""Does the USI engine keep its time? Plays moves in byoyomi and measures each as its client does.

    python benchmarks/scripts/usi_time.py --checkpoint runs/first --moves 1000 --busy 1

A move's time runs from the writing of `go` to the reading of `bestmove`, in another process, so all
that lies between is in it. `--busy N` starts N processes that do nothing but compute. A thread that
only sleeps says how late it wakes up at worst: nothing on this machine can be more punctual.
"""

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from keisei_ray.shogi.game import STANDARD_SFEN, Game

ROOT = Path(__file__).parents[2]
BUSY = "while True: pass"
SLEEP_S = 0.02


class Sleeper(threading.Thread):
    """A thread that only sleeps, and notes how late it wakes up at worst."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.latest_s = 0.0

    def run(self) -> None:
        """Sleeps for as long as the process lives."""
        while True:
            due = time.perf_counter() + SLEEP_S
            time.sleep(SLEEP_S)
            self.latest_s = max(self.latest_s, time.perf_counter() - due)


class Client:
    """One engine process and its client's side."""

    def __init__(self, checkpoint: str, options: list[str]) -> None:
        flags = [f"--option={option}" for option in options]
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "usi", "--checkpoint", checkpoint, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def hear(self, word: str) -> list[str]:
        """The next line that begins with a word."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.split()[:1] == [word]:
                return line.split()
        raise SystemExit(f"The engine ended before {word!r}.")

    def close(self) -> int:
        self.say("quit")
        return self._process.wait()


def play(client: Client, moves: int, byoyomi: int) -> list[float]:
    """Seconds of each of so many moves, in as many games as they take."""
    times: list[float] = []
    game, is_over = Game(STANDARD_SFEN, max_plies=320), False
    while len(times) < moves:
        if is_over:
            client.say("usinewgame")
            game, is_over = Game(STANDARD_SFEN, max_plies=320), False
        client.say(f"position startpos moves {game.moves_usi()}")
        started = time.perf_counter()
        client.say(f"go btime 0 wtime 0 byoyomi {byoyomi}")
        answer = client.hear("bestmove")[1]
        times.append(time.perf_counter() - started)
        if answer in ("resign", "win"):
            is_over = True
            continue
        found = game.find_move(answer)
        assert found is not None, f"illegal: {answer} in {game.board.to_sfen()}"
        is_over = game.play(int(np.frombuffer(game.legal, np.uint16)[found])) is not None
    return times


def main() -> None:
    """Plays and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--byoyomi", type=int, default=300, metavar="MS")
    parser.add_argument("--busy", type=int, default=1, metavar="N")
    parser.add_argument("--option", action="append", default=["Temperature=50"])
    options = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(options.busy)]
    client = Client(options.checkpoint, options.option)
    try:
        client.say("isready")
        client.hear("readyok")
        sleeper = Sleeper()
        sleeper.start()
        _report(options.byoyomi, play(client, options.moves, options.byoyomi))
        print(f"A thread that only sleeps woke up {1000 * sleeper.latest_s:.0f} ms late at worst.")
    finally:
        for process in busy:
            process.kill()
        client.close()


def _report(byoyomi: int, seconds: list[float]) -> None:
    times = np.array(seconds)
    left = byoyomi - 1000 * times
    print(
        f"{len(times)} moves, byoyomi {byoyomi} ms: lost on time {np.sum(left < 0)}, "
        f"longest {1000 * times.max():.0f} ms, mean {1000 * times.mean():.0f} ms, "
        f"least time left {left.min():.0f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
