"""bench data."""
