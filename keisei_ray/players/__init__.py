"""Players: whatever can choose a move, for many games at once."""
