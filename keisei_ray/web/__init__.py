"""Runs in the browser: `python run.py web`, one local server for watching, replaying and playing.

It reads the directories of runs as `status` and `report` do, and disturbs no run: it works at the
lowest priority and writes nothing there, but for games that a person has played.

    command     arguments, the address, the end by Ctrl-C
    server      the application: who may ask, security headers, errors, static files
    shown_runs  which directories are shown, and the name of each in addresses
    live        server-sent events
    runs_api    list of runs, curves, events, settings
    games_api   games of a run
    play_api    games against a run's network
    static      the pages: plain JavaScript modules without a build step. What they share with
                `report` (colors, charts, uPlot) is in `keisei_ray/report/shared`
"""
