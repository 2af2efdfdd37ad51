"""Weights & Biases: the subscriber, its client and its records."""
