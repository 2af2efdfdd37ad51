"""Players: everything that can choose a move, for many games at once."""
