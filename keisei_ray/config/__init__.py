"""Settings: the schema, how they are given and merged, and what the hardware decides."""
