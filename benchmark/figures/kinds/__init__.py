"""One file a kind of figure; its name is the kind's, and a new file is a new kind.

A file's docstring begins with what it shows, and its ``draw(source)`` yields
:class:`benchmark.figures.drawing.Drawing`. Nothing is yielded if nothing of it is there yet.
"""
