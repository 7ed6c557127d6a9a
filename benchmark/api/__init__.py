"""The public face: what ``import benchmark`` offers. Rooms below do not know of it."""
