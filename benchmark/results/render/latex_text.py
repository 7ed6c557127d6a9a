"""Plain text as LaTeX, for any engine and font encoding, with the kernel and amssymb alone."""

from __future__ import annotations

import re
import string
import unicodedata

# OT1, LaTeX's default font encoding, has no straight double quote and sets < > | as other
# letters; brackets and stars are braced since they would be read as arguments after a row's end.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{SECTION SIGN}": r"\S{}",
    "\N{DAGGER}": r"\dag{}",
    "\N{DOUBLE DAGGER}": r"\ddag{}",
    "\N{LATIN SMALL LETTER SHARP S}": r"\ss{}",
    "\N{LATIN SMALL LETTER AE}": r"\ae{}",
    "\N{LATIN CAPITAL LETTER AE}": r"\AE{}",
    "\N{LATIN SMALL LETTER O WITH STROKE}": r"\o{}",
    "\N{LATIN CAPITAL LETTER O WITH STROKE}": r"\O{}",
    "\N{LATIN SMALL LETTER L WITH STROKE}": r"\l{}",
    "\N{LATIN CAPITAL LETTER L WITH STROKE}": r"\L{}",
    "\N{LATIN SMALL LETTER DOTLESS I}": r"\i{}",
    "\N{LATIN SMALL LIGATURE OE}": r"\oe{}",
    "\N{LATIN CAPITAL LIGATURE OE}": r"\OE{}",
    "\N{POUND SIGN}": r"\pounds{}",
    "\N{COPYRIGHT SIGN}": r"\copyright{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{DEGREE SIGN}": r"$^\circ$",
    "\N{MINUS SIGN}": "$-$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\le$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
    "\N{NOT EQUAL TO}": r"$\ne$",
    "\N{ALMOST EQUAL TO}": r"$\approx$",
    "\N{INFINITY}": r"$\infty$",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
    "\N{LEFTWARDS ARROW}": r"$\leftarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{CHECK MARK}": r"$\checkmark$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{SUPERSCRIPT THREE}": "$^3$",
    "\N{MICRO SIGN}": r"$\mu$",
}
# Greek letters that look like Latin ones have no command of their own.
GREEK_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
GREEK_NAMES = {"LAMDA": "lambda", "FINAL SIGMA": "varsigma"}
GREEK_COMMANDS = (
    " alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma "
    "sigma tau upsilon phi chi psi omega "
)
ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING MACRON}": "=",
    "\N{COMBINING BREVE}": "u",
    "\N{COMBINING DOT ABOVE}": ".",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H",
    "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING DOT BELOW}": "d",
    "\N{COMBINING MACRON BELOW}": "b",
    "\N{COMBINING COMMA BELOW}": "textcommabelow",
    "\N{COMBINING OGONEK}": "k",
}
# Letters and accents that OT1 lacks; LaTeX itself knows T1, also if nothing loads it.
T1 = r"{\fontencoding{T1}\selectfont"
T1_ACCENTS = "\N{COMBINING OGONEK}"
T1_LETTERS = {
    "\N{LATIN SMALL LETTER D WITH STROKE}": r"\dj",
    "\N{LATIN CAPITAL LETTER D WITH STROKE}": r"\DJ",
    "\N{LATIN SMALL LETTER ETH}": r"\dh",
    "\N{LATIN CAPITAL LETTER ETH}": r"\DH",
    "\N{LATIN SMALL LETTER THORN}": r"\th",
    "\N{LATIN CAPITAL LETTER THORN}": r"\TH",
    "\N{LATIN SMALL LETTER ENG}": r"\ng",
    "\N{LATIN CAPITAL LETTER ENG}": r"\NG",
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": r"\guillemotleft",
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}": r"\guillemotright",
}
# Pairs that TeX's fonts would join into another character.
LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=')(?=')|(?<=`)(?=`)|(?<=[!?])(?=`)")
_LETTERS = frozenset(string.ascii_letters)
_ABOVE = 230  # Unicode's combining class of marks above a letter, which take the dot's place
SPACES = re.compile(r"[^\S\N{NO-BREAK SPACE}]+")


def escape(text: str) -> str:
    """Return text as LaTeX that sets it as it stands, on one line.

    Accented Latin and Greek letters, and the common signs, become commands that pdfLaTeX knows;
    a character that its fonts lack is named by its code point, "[U+4E2D]".
    """
    flat = unicodedata.normalize("NFC", SPACES.sub(" ", text).strip())
    return "".join(_cluster(c) if c else "{}" for c in _split(flat))


def _split(text: str) -> list[str]:
    """Return the letters, each with its accents, and "" wherever a ligature must be broken."""
    breaks = {match.start() for match in LIGATURES.finditer(text)}
    parts: list[str] = []
    for i, character in enumerate(text):
        if parts and parts[-1] and unicodedata.combining(character):
            parts[-1] += character
        else:
            parts += ["", character] if i in breaks else [character]
    return parts


def _cluster(text: str) -> str:
    """Return a letter with its accents, the innermost of which stands first."""
    if len(text) == 1 and (text in SPECIAL or text.isascii()):
        return _character(text)
    letter, *marks = list(unicodedata.normalize("NFD", text))
    if not marks or letter not in _LETTERS or not set(marks) <= set(ACCENTS):
        return "".join(map(_character, text))
    above = any(unicodedata.combining(mark) == _ABOVE for mark in marks)
    found = {"i": r"\i", "j": r"\j"}.get(letter, letter) if above else letter
    for mark in marks:
        found = f"\\{ACCENTS[mark]}{{{found}}}"
    return f"{T1}{found}}}" if set(marks) & set(T1_ACCENTS) else found


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if " " <= character <= "~":
        return character
    if character in GREEK_AS_LATIN:
        return GREEK_AS_LATIN[character]
    name = unicodedata.name(character, "")
    for case in ("SMALL", "CAPITAL"):
        head = f"GREEK {case} LETTER "
        if name.startswith(head) and " WITH " not in name:
            word = name.removeprefix(head)
            command = GREEK_NAMES.get(word, word.lower())
            if f" {command} " in GREEK_COMMANDS:
                return f"$\\{command if case == 'SMALL' else command.capitalize()}$"
    if character in T1_LETTERS:
        return f"{T1}{T1_LETTERS[character]}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"
