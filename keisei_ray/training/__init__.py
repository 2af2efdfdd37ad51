"""A training run: the session a person starts, and the driver's loop."""
