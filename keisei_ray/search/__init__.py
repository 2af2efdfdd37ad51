"""Search: moves by looking ahead with the network, in many games at once. No Ray.

    settings.py  how far to look, and the constants of the selection rule
    forest.py    one tree for each game, in shared arrays: selection, expansion, backup, proofs
    search.py    `Search.run`: steps of select, judge, evaluate, expand and back up
    gumbel.py    which moves of a root are tried, by sequential halving

A search asks for a network as a function (`Evaluate`), so that it knows no model and no device.
`players/searching.py` makes a player of it.
"""
