"""Runs whose directory is a URI: local copies, uploads, and resuming from the URI."""
