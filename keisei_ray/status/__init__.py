"""State of a run, seen from another process: `python run.py status` and `python run.py watch`.

Everything is read from the files of the run's directory, on this machine or on a node of a Ray
cluster, for a run that is still going and for one that has ended. Nothing is written there.

    command          the two commands for a directory on this machine
    remote           the two commands for a run on a Ray cluster; the only module here with Ray
    cluster_records  runs on a cluster as records, and which of them the user means
    reader           RunReader, which reads a run's files on the machine where they are
    follow, records  events of a run, read back from its files as they grow
    liveness         whether a process still works on the run
    run_status       Status, one record of a run's state; screen draws it as text
"""
