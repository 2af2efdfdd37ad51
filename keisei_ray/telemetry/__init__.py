"""Counts, reports, events, metrics and timers of a run. Subscribers in `tracking` show them."""
