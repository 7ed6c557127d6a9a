"""bench methods."""
