"""The game: rules, observations, labels, N games in lockstep. Numpy; no torch, no ray.

The only package that imports the rules library (rsshogi). Squares are numbered
as there: file * 9 + rank, so 1a is 0, 1b is 1 and 9i is 80. Everything that leaves
this package is seen from the side to move: for White the board is turned by half a
turn (square s becomes 80 - s) and the colours are swapped.
"""
