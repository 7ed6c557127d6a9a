"""Speaks Slurm's language: profiles, commands, scripts, queues. Knows nothing of submissions."""
