"""The Python library: what notebooks and other programs use, as names of `keisei_ray` itself.

    player.py    `load`: the network of a checkpoint, which evaluates positions and chooses moves
    runs.py      `read_run`: the records of a run as tables
    training.py  `train`: a run, as `run.py train` makes it

`keisei_ray/__init__.py` imports each of them when its name is first used, so that importing
`keisei_ray` loads neither torch nor Ray. docs/library.md is the guide.
"""
