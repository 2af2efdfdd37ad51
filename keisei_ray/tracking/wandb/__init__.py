"""Weights & Biases: the subscriber, its queue of calls, and the client that uses wandb."""
