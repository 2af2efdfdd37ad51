"""Keisei Ray: self-play reinforcement learning for Shogi on Ray."""

__version__ = "0.1.0"
"""Version of the package. pyproject.toml reads it from here, so that a checkout that is not
installed knows it too."""
