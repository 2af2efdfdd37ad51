"""A run seen from outside: `python run.py status` and `python run.py watch`.

All that is known comes from the files of the run's directory, so it works from another terminal
or machine, for a run that goes on and for one that has ended. Nothing here writes into the
directory, and neither torch nor Ray is needed.

`records` makes events of the files' records, `follow` reads them as they grow, `life` says
whether anybody still works on the run, `state` puts it together, `show` draws one screen, and
`command` is what a person calls.
"""
