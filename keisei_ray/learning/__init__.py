"""The learning rule: rollouts in, the next version of the weights out. No Ray.

    learner.py       `Learner.update`: one PPO update, from packed rollouts to new weights
    received.py      packed rollouts as they came: unpacked and checked
    update_batch.py  the plies of rollouts become the rows of an update, with their targets
    advantages.py    generalized advantage estimation for two players who move in turn
    update_steps.py  epochs of minibatches, each a gradient and a step, to the end or the KL stop
    learner_group.py what several learners add up and agree on
    flat_layout.py   weights, gradients and moments, each side by side in one tensor
    gradients.py     the rows of a minibatch become a gradient, computed by several threads
    recorded_passes.py forward pass and loss as a recording, for threads that compute at once
    late_reading.py  figures of a minibatch reach the host without keeping the device waiting
    update_totals.py sums over an update's minibatches, and the means that are reported
    ppo.py           the loss of a minibatch and its diagnostics
    snapshot.py      a copy of a version, to be packed while the next update runs
    schedules.py     learning rate and entropy coefficient over the length of a run

A ply becomes a row of a rollout in `selfplay/self_play.py` (`_play_ply`), a row of the update in
`UpdateBatch.fill`, and part of a gradient in `ParallelGradients.compute`, which
`UpdateSteps.step` turns into a step.
"""
