"""Weights & Biases: the subscriber, and the client that uses wandb."""
