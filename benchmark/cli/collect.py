"""bench collect."""
