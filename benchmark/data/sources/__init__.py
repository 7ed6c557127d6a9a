"""Where images come from before they are written: one file for each kind of source."""
