"""What a run counts and says: progress, reports, events, metrics, timers. Nothing here shows it."""
