"""A reproduction suite for published knowledge-distillation tables.

Importing this package imports neither torch nor any other heavy library; see
docs/architecture.md for what lives where.
"""

__version__ = "0.1.0"
