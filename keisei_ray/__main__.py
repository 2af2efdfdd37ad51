"""`python -m keisei_ray`: the command line of an installed package."""

from keisei_ray.cli import entry_point

entry_point()
