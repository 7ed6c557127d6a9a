"""Filled runs directories, shared with the tests of what is collected from them."""

from tests.results.conftest import cache, filled, first, runs, trained

__all__ = ["cache", "filled", "first", "runs", "trained"]
