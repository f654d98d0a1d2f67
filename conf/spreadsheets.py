"""Cells of CSV files that spreadsheets would execute as formulas: exports put a quotation mark before them."""

FORMULAS = tuple("=+-@\t\r\n|%＝＋－＠")


def guarded(value: object) -> object:
    """Return a value that a spreadsheet reads as text where it would execute it as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def unguarded(text: str) -> str:
    """Return the text that `guarded` made a cell of."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULAS) else text
