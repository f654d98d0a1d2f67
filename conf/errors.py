"""The base exception of TinyTags, which only the command line turns into one line and an exit code."""

from conf.addresses import without_passwords


class TinyTagsError(Exception):
    """Something a user can fix; its message is one line that names the thing, quotes its value and gives the fix.

    Addresses in it are without their passwords.
    """

    exit_code = 1
    # The verb that helps, where it is known: "ingest" for a partition whose images are damaged.
    remedy: str | None = None

    def __str__(self) -> str:
        return without_passwords(super().__str__())


class LeaseHeldError(TinyTagsError):
    """Another process is writing the same corpus, model or run."""

    exit_code = 75
