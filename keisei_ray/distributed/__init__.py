"""Ray: the remote actors, the driver's handles on them, and the cluster.

    actors.py             the remote classes: thin shells around self-play, learner and evaluator
    fleet.py              all self-play actors: starts, counts, replaces them
    learner_handle.py     the learner: starts it, hands it rollouts, restarts it
    evaluation_handle.py  the evaluator: matches of the newest weights
    pool_handle.py        the opponent pool and the weights of its snapshots
    supervision.py        the errors that are deaths, and whether an actor is started again
    ray_errors.py         Ray's errors as errors of this program
    versions.py           refuses a node that runs another program
    cluster.py            starts or joins a cluster
    address.py            the address of the cluster to join
    cluster_fit.py        whether a run fits on a cluster
    cluster_watch.py      the size of a run while nodes come and go

Handles are used by the driver (`training/driver.py`) and hold references, not data.
"""
