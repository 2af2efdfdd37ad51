"""Runs whose directory is a URI: copies, uploads, resuming from there."""
