"""Players: everything that chooses moves, for many games at once. No Ray.

    player.py          `open_player`: the player that a text names, with a name and an identity
    policies.py        functions that choose moves: by a network, greedily, at random
    searching.py       a network that looks ahead, as such a function
    saved_model.py     the network of a checkpoint, checked and ready to play
    usi_player.py      a USI engine as a player: processes that share the positions of a match
    usi_engine.py      one engine, spoken to in the USI protocol
    engine_process.py  a child process that is spoken to in lines, with deadlines

`config/player_spec.py` reads the texts. Self-play, evaluation and the opponent pool choose all
moves by `policies.py` or an engine.
"""
