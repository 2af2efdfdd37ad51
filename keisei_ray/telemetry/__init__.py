"""Counts, reports, events, metrics and timers of a run. Subscribers in `tracking` show them.

progress.py          the run's counts, which only the driver changes
reports.py           records that actors return to the driver
metrics.py           the record of an update: a line of `metrics.jsonl`
diagnostics.py       further figures of an update: a line of `diagnostics.jsonl`
events.py            every event of a run, and the bus that delivers them
call_queue.py        a bounded queue of calls with a thread, for what may block
periodic_trigger.py  when something periodic is due, counted in timesteps
stage_timer.py       times of the stages of a piece of work
profiler.py          torch.profiler around the calls that the settings name
rates.py             rates, means and fractions
"""
