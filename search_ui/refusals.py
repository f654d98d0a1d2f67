"""What the server answers to requests that never reach the application: too large, or no HTTP."""

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from search_ui.errors import HEADERS


class Refusal(ErrorTask):
    """A refusal with the headers of every other answer."""

    def execute(self) -> None:
        self.response_headers.extend(HEADERS.items())
        super().execute()


def add_headers() -> None:
    """Let all servers of this process refuse so; Waitress has no setting for it."""
    HTTPChannel.error_task_class = Refusal
