"""The one base exception of TinyTags, which the command line alone turns into a line and an exit code."""


class TinyTagsError(Exception):
    """Something a user can mend; its message is one line that names the thing, quotes its value and gives the fix."""

    exit_code = 1
    # The verb that helps, where it is known: "ingest" for a partition whose images are damaged.
    remedy: str | None = None


class LeaseHeldError(TinyTagsError):
    """Somebody else is writing the same corpus, model or run."""

    exit_code = 75
