"""A file or folder as a listing has it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A file or folder: its name, size in bytes and time of change in seconds since 1970."""

    name: str
    size: int
    modified: float
    is_dir: bool


def base_name(path: str) -> str:
    """Return the last part of a path or URL, without a slash at its end."""
    return path.rstrip("/").rsplit("/", 1)[-1]
