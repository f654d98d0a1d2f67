"""Which characters a name may have: of a class, a label or a person."""

import unicodedata

# Control characters, line and paragraph separators, and bytes that are no text. Spaces of all widths, soft hyphens and the joiners
# that Persian and Hindi need are text.
_REFUSED = {"Cc", "Zl", "Zp", "Cs"}
# These reverse the text that follows, also beyond the name.
_OVERRIDES = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_one_line(text: str) -> bool:
    """Return whether a text has no control character, line break, override of the direction or undecodable byte."""
    return text.isprintable() or not any(
        unicodedata.category(letter) in _REFUSED or letter in _OVERRIDES for letter in text
    )


def has_letter(text: str) -> bool:
    """Return whether a text has a character that is seen."""
    return any(unicodedata.category(letter)[0] not in "ZC" for letter in text)


def tidy(text: str) -> str:
    """Return a text without spaces, tabs and line breaks around it, and one space for several within; other spaces stay."""
    return " ".join(
        word for word in text.replace("\t", " ").replace("\r", " ").replace("\n", " ").split(" ") if word
    )
