"""The only way into a queue, and the only reader of what was sent."""
