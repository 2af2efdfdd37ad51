"""Self-play: games in play, the opponent pool, and which opponent plays which game. No Ray."""
