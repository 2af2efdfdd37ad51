"""Views of a run on a terminal.

`view_state.py` computes one state from the events. `live.py` shows it as a frame that stays in
place: `frame.py` lays out the panels of `panels.py`, which are made of the lines and bars of
`draw.py`, the strings of `text.py` and the board of `board.py`. `lines.py` writes the same state
line by line. Both end with `summary.py`. `background_stream.py` is the standard output that they
write to, which cannot hold up the run.
"""
