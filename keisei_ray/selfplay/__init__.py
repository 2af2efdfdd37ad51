"""Self-play: games in play become rollouts; the opponent pool and its games. No Ray.

    self_play.py     `SelfPlay.collect`: plays T plies in each of N games, records every ply as a
                     row of a rollout, and packs the rollout
    pairing.py       which opponent plays which of an actor's games, and whose turn it is
    opponent_mix.py  which opponents an actor's new games are drawn from (made by the driver)
    pool.py          the members of the pool, results against each, and their probabilities (driver)

The driver counts results in the `Pool`, makes an `OpponentMix` for each request, and the actor's
`Pairing` draws an opponent for each new game from it. Moves are chosen by `players/policies.py`.
"""
