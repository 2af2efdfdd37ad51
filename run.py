"""Keisei Ray from a checkout: `python run.py --help`."""

from keisei_ray.__main__ import entry_point

if __name__ == "__main__":
    entry_point()
