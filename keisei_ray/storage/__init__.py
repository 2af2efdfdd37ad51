"""Files of a run: names, checkpoints, manifests, atomic writes, copies at a URI."""
