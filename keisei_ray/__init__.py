"""Keisei Ray: self-play reinforcement learning for Shogi on Ray."""

__version__ = "0.1.0"
"""Stands here, not in pyproject.toml, so that a checkout knows it without being installed."""
