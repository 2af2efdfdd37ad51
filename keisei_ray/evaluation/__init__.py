"""Evaluation: matches from both colours, scores with intervals, ladders, Elo tables."""
