from __future__ import annotations

import pytest

from benchmark.base.words import plain, printable, short


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bench-digits", "bench-digits"),
        ("caf\u00e9 \u4e2d \u00b1", "caf\u00e9 \u4e2d \u00b1"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\u202eright\u2066", "\\u202eright\\u2066"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("name\udcff", "name\\udcff"),
    ],
)
def test_texts_of_others_can_only_be_read(text: str, expected: str) -> None:
    assert printable(text) == expected
    printable(text).encode()


def test_lines_stay_lines() -> None:
    assert plain("one\n\ttwo\r\nthree\rfour\x1b[A") == "one\n\ttwo\nthree\\rfour\\x1b[A"
    assert plain("as it is") == "as it is"


def test_what_is_long_is_cut_visibly() -> None:
    assert short("a" * 200) == "a" * 200
    assert short("a\n" + "b" * 300) == "a\\n" + "b" * 197 + "…"
