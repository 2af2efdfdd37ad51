"""This trainer and another in alternation on this machine: ratio of their speeds.

    python -m venv peer && peer/bin/pip install -c constraints.txt -e . \
        -r benchmarks/peers/requirements.txt
    python benchmarks/peers/compare.py --peer sb3 --peer-python peer/bin/python --rounds 5

The other is Stable-Baselines3 (`sb3_peer.py`) or RLlib (`rllib_peer.py`). Each round runs one after
the other for some seconds, beyond a warm-up of two updates, with nothing else on the machine.
Network, game, minibatches and epochs are the same. The others compute in float32, since they have
no mixed precision of their own; `--peer-amp bf16` gives them ours.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from peer_options import NUM_MINIBATCHES, TIMESTEPS_PER_UPDATE, WARM_UP_UPDATES

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Prints each round and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=("sb3", "rllib"), default="sb3")
    parser.add_argument("--peer-python", required=True, help="interpreter that has the peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--num-actors", default="32")
    parser.add_argument("--peer-amp", choices=("off", "bf16"), default="off")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    rounds = []
    expected = 500.0
    for number in range(options.rounds):
        ours = own_rate(options, expected)
        theirs = peer_rate(options)
        expected = ours
        rounds.append({"ours": ours, "theirs": theirs, "ratio": ours / theirs})
        print(f"round {number + 1}: {ours:,.0f} / {theirs:,.0f} = {ours / theirs:.2f}", flush=True)
    ratios = [found["ratio"] for found in rounds]
    print(f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    if options.json:
        settings = {k: v for k, v in vars(options).items() if k not in ("json", "peer_python")}
        options.json.write_text(json.dumps({"settings": settings, "rounds": rounds}, indent=1))


def own_rate(options: argparse.Namespace, expected: float) -> float:
    """Trains by `run.py` and returns timesteps a second after the warm-up.

    Args:
        options: of the command line.
        expected: timesteps a second, by which the length of the run is chosen.
    """
    measured = max(3, round(options.seconds * expected / TIMESTEPS_PER_UPDATE))
    total = TIMESTEPS_PER_UPDATE * (WARM_UP_UPDATES + measured)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "model.depth": options.depth,
            "model.width": options.width,
            "learner.num_epochs": options.epochs,
            "learner.num_minibatches": NUM_MINIBATCHES,
            "learner.target_kl": "null",
            "evaluation.interval_timesteps": "null",
            "tracking.view": "none",
            "checkpoint.interval_timesteps": total,
        }
        command = [
            *(sys.executable, "run.py", "--num-actors", options.num_actors),
            *("--total-timesteps", str(total), "--run-dir", f"{folder}/run"),
            *(part for item in settings.items() for part in ("--set", "{}={}".format(*item))),
        ]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = json.loads(lines[WARM_UP_UPDATES - 1]), json.loads(lines[-1])
    seconds = float(last["wall_time_s"]) - float(first["wall_time_s"])
    return (int(last["timestep"]) - int(first["timestep"])) / seconds


def peer_rate(options: argparse.Namespace) -> float:
    """Trains by the peer and returns timesteps a second after its warm-up."""
    arguments = {
        "--depth": options.depth,
        "--width": options.width,
        "--epochs": options.epochs,
        "--seconds": options.seconds,
        "--amp": options.peer_amp,
    }
    script = Path(__file__).with_name(f"{options.peer}_peer.py")
    command = [options.peer_python, str(script)]
    command += [str(part) for item in arguments.items() for part in item]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["timesteps_per_s"])


if __name__ == "__main__":
    main()
