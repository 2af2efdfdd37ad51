"""A training run: the session that a user starts, and the driver's loop.

    session.py       `train`: one session, from directory and cluster to the end of the run
    run_start.py     its directory, locked, and the checkpoint that it resumes, if any
    resumed_settings.py  settings and schedules of a resume that differ from the checkpoint's
    driver.py        the loop: asks for rollouts, updates, publishes, records, saves
    admission.py     when an actor is asked for a rollout, and which rollouts make an update:
                     policy lag and backpressure
    saved_run.py     the content of a run's checkpoint
    standby.py       hands the newest state to a process that saves it if the driver is killed
    stop_request.py  SIGINT and SIGTERM

Read `driver.py` first.
"""
