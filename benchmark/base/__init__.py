"""Knows nobody: errors, files, git, yaml, the machine, progress."""
