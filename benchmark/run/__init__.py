"""What one run is on disk: its identity, its directory, its lease, and the only reader of it."""
