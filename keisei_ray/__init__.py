"""Keisei Ray: self-play reinforcement learning for Shogi on Ray."""

from importlib.metadata import version

__version__ = version("keisei-ray")
