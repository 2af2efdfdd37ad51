"""The rollout record and the packed form in which it crosses processes."""
