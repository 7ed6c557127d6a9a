"""bench teachers."""
