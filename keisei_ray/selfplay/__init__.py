"""Self-play: games in play become rollouts; the opponent pool and its games. No Ray.

    self_play.py     `SelfPlay.collect`: plays T plies in each of N games, records every ply as a
                     row of a rollout, and packs the rollout
    pairing.py       which opponent plays which of an actor's games, and whose turn it is
    opponent_mix.py  opponents among which an actor's new games choose (made by the driver)
    pool.py          the members of the pool, results against each, and their probabilities (driver)

The driver counts results in the `Pool` and sends an `OpponentMix` with each `collect`; the actor's
`Pairing` chooses an opponent from it for each new game. Moves are chosen by `players/policies.py`.
"""
