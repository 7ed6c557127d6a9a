"""Renderings of a Grid: each module has one `render(grid, ...) -> str`."""
