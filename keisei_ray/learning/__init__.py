"""The learning rule: advantages, PPO, gradients, and the learner. No Ray."""
