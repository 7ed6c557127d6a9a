"""What leaves the house: curves for other tools, networks for other runtimes."""
