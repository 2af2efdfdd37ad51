"""Ray: the remote actors, the driver's handles on them, and the cluster."""
