"""Subscribers to a run's events: views, records on disk, experiment trackers.

Everything here reads events and never steers the run. `logs.configure` wraps the whole run.

    subscribers.py          builds the subscribers of a configuration
    plugins.py              users' own subscribers, by name and with settings
    recorders.py            JSON lines files: events, metrics, diagnostics, games
    run_file_queue.py       writes them and `run.log` in a thread, also when the disk was full
    evaluation_recorder.py  `evaluations.jsonl` and `ratings.json`
    evaluation_records.py   their form, for writing and reading
    terminal/               the views on a terminal
    tensorboard.py          TensorBoard
    wandb/                  Weights & Biases
    curves.py               the numbers of an event by name, for trackers and sweeps
    ray_metrics.py          exports to Prometheus
    prometheus.py           the names there
    event_messages.py       events as one-line messages
    late_notice.py          notices of threads, also after the last event
    logs.py                 `run.log` and warnings of the driver's process
    collapse_alarm.py       warns when self-play plays the same games again and again
    profile_files.py        `profile/`: traces
    background_upload.py    uploads a run to its URI
"""
