"""The base exception of TinyTags, which only the command line turns into one line and an exit code."""


class TinyTagsError(Exception):
    """Something a user can fix; its message is one line that names the thing, quotes its value and gives the fix."""

    exit_code = 1
    # The verb that helps, where it is known: "ingest" for a partition whose images are damaged.
    remedy: str | None = None


class LeaseHeldError(TinyTagsError):
    """Another process is writing the same corpus, model or run."""

    exit_code = 75
