"""A run directory as one self-contained page of HTML: `python run.py report RUN_DIR`.

Reads a run's files, finished or still growing, and writes one file that needs nothing else: no
network, no library, no server. Nothing here changes a run or knows how to train one.

`run_files` reads, `games` chooses and replays games, `curves` thins out, `summary` says it in
words, `charts` decides what is drawn and `svg` draws it, `page` puts it together and `command`
writes it.
"""
