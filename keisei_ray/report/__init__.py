"""A run as one self-contained HTML page: `python run.py report RUN_DIR`.

The page needs nothing else: no network, no library, no server. A run that is still going has a
page too. Nothing here writes into a run's files.

    command      writes the page
    run_files    reads a run directory into records; columns, games: the large files of it
    curves       reduces many records to as many points as a chart can show
    summary      the run in sentences and a few figures
    charts       which charts there are; chart_data: their numbers and scales for the script
    tables       matches, events, settings, metrics; formatting: numbers as text
    page         puts all of it together, with page.css and replay.js
    shared       what the pages of `run.py web` use too: colors, charts.js, the library uPlot
"""
