"""From a table to packs: what is to be trained, what it will take, what cannot be."""
