"""Responses to requests that never reach the application: too large, or not HTTP."""

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from search_ui.errors import HEADERS


class Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """An error with the headers of every other response."""

    def execute(self) -> None:
        self.response_headers.extend(HEADERS.items())
        super().execute()


def add_headers() -> None:
    """Let all servers of this process use `Refusal`; Waitress has no setting for it."""
    HTTPChannel.error_task_class = Refusal
