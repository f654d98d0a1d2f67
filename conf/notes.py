"""Notes that a command prints once, at its end, however often their reason occurs."""

_notes: dict[str, None] = {}


def note_at_end(line: str) -> None:
    """Have the command print ``line`` on stderr when it ends, once."""
    _notes[line] = None


def take_notes() -> list[str]:
    """Return the notes since the last call, in order."""
    taken = list(_notes)
    _notes.clear()
    return taken
