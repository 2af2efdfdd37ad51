"""Keisei Ray from a checkout: `python run.py --help`."""

from keisei_ray.cli import entry_point

if __name__ == "__main__":
    entry_point()
