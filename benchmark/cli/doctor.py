"""bench doctor."""
