"""The English for what the library returns: pure functions from a result to lines."""
