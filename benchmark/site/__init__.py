"""A report as a folder of pages that need no network, no server and no build step."""
