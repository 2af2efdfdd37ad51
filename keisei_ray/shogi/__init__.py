"""The game of shogi: rules, positions as arrays, policy labels, N games side by side.

The only package that imports the rules library (rsshogi). Numpy only: no torch, no Ray.

    rules.py         by which rule a game ends and who has won
    game.py          one game in play: its rules state from ply to ply, and how a game starts
    vector_games.py  N games in play, their positions and legal moves in arrays: what players are
                     shown and what `self_play.py` records
    moves.py         applies one 16-bit move to each of N positions in arrays
    observation.py   one position as compact arrays: what the network is given
    actions.py       tables from a move to its policy label and back to the policy head's planes
    notation.py      a finished game as KIF, CSA or USI text
    replay.py        a finished game position by position, for drawing it

Squares are numbered as in rsshogi: file * 9 + rank, so 1a is 0, 1b is 1 and 9i is 80. Positions and
labels are seen from the side to move: for White the board is rotated by half a turn (square s
becomes 80 - s) and the colours are swapped. 16-bit moves, SFEN, USI and results are absolute.
"""
