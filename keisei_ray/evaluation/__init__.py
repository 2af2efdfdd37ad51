"""How strong weights are: opponents, matches from both colours, scores with intervals."""
