"""Runs in the browser: `python run.py web`, one local server for watching, replaying and playing.

It reads the directories of runs as `status` and `report` do, and disturbs no run: it works at the
lowest priority and writes nothing there, but for games that a person has played.

    command     arguments, the address, the end by Ctrl-C
    server      the application: who may ask, security headers, errors, static files
    shown_runs  which directories are shown, and the name of each in addresses
    remote_copies  runs at URIs, copied and kept up to date
    feeds       states and curves of runs as they grow, read once for all clients
    live        server-sent events
    runs_api    list of runs, curves, events, settings
    games_api   games of a run: lists, games to replay, a network's opinion of them
    game_index  all games of a run by number, for filters and pages
    play_api    games against a run's network
    human_game  the rules of such a game; human_records: where it is saved
    play_sessions  games that are open
    opponents   checkpoints and strengths, with names that a person understands
    thinker     questions to the process in which networks think, thinking_process
    requests    bodies and queries, checked; work that ends when its client has gone
    keys        what the handlers share; answers: JSON for browsers
    static      the pages: plain JavaScript modules without a build step. What they share with
                `report` (colors, charts, uPlot) is in `keisei_ray/report/shared`
"""
