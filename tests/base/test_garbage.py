"""The search for cycles is put off for a part, and for no longer."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from benchmark.base.garbage import no_search_for_cycles


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    was = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was else gc.disable)()


def test_it_goes_on_afterwards() -> None:
    with no_search_for_cycles():
        assert not gc.isenabled()
        with no_search_for_cycles():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="broken"), no_search_for_cycles():
        raise ValueError("broken")
    assert gc.isenabled()


def test_where_it_is_off_it_stays_off() -> None:
    gc.disable()
    with no_search_for_cycles():
        pass
    assert not gc.isenabled()
