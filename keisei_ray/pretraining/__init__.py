"""Learning from game records in place of self-play.

`record_play.py` stands where self-play stands: it fills the same rollout, so learner, driver,
checkpoints and records are those of any run. `held_out.py` measures a network on games that it was
not trained on.
"""
