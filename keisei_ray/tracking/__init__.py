"""Subscribers to a run's events: views, records on disk, experiment trackers.

Everything here reads events and never steers the run. `subscribers.py` builds the subscribers of a
configuration; `logs.configure` wraps the whole run.
"""
