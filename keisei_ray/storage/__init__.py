"""Files of a run: layout, checkpoints, manifests, atomic writes."""
