"""A USI engine: the network of a checkpoint, with its search, as a program for shogi GUIs.

    protocol.py       lines of the protocol: what a client says, what the engine answers
    options.py        the engine's options, their limits and their values
    time_control.py   how long to think, from the clocks
    score.py          values as centipawns, proofs as mates
    position.py       the game that a client describes
    engine.py         the conversation: one writer of its state and of the output
    thinker.py        the thread that loads the network and searches
    command.py        `run.py usi`: input, output, the end of the process

Two threads do the work. The main one owns the conversation and answers at once; the thinker owns
network and tree. They exchange messages. A third only reads lines. Torch is loaded by the thinker,
when the client asks whether the engine is ready.
"""
