"""Label detection by Google Cloud Vision, through its own client (the extra ``vision``): the picture leaves this machine.

The credentials are those of the client's usual environment (Application Default Credentials); nothing of them is stored.
"""

import importlib.util
import logging
import time
from dataclasses import dataclass

from conf.errors import TinyTagsError
from conf.settings import Settings
from search_ui.classifying import UNNAMED, UploadedFile

NAME = "Google Cloud Vision"
MOST_LABELS = 50  # of one picture
SECONDS = 10.0  # for the answer to one picture

log = logging.getLogger(__name__)


class DetectionUnavailableError(TinyTagsError):
    """Google Cloud Vision can't be used: the extra or credentials are missing, or it refuses or doesn't answer."""


class DetectionRefusedError(TinyTagsError):
    """Google Cloud Vision can't read this picture."""


@dataclass(frozen=True)
class DetectedLabel:
    """A label of a picture; ``id`` is its class id as in Open Images (``/m/0abc``), or empty; ``score`` is 0.0-1.0."""

    name: str
    id: str
    score: float


@dataclass(frozen=True)
class Detected:
    """The labels of one picture, the most confident first."""

    name: str
    labels: tuple[DetectedLabel, ...]
    milliseconds: float


def installed() -> bool:
    """Return whether the client is installed."""
    try:
        return importlib.util.find_spec("google.cloud.vision") is not None
    except ModuleNotFoundError:  # not even google.cloud
        return False


class Detector:
    """A client with the credentials of the environment. Raises `DetectionUnavailableError` where there are none."""

    def __init__(self, settings: Settings) -> None:
        if not installed():
            raise DetectionUnavailableError(
                f'label detection by {NAME} is not installed here: pip install "tinytags[vision]"'
            )
        from google.api_core.client_options import ClientOptions
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import vision

        options = ClientOptions(api_endpoint=settings.vision or None)
        try:
            self._client = vision.ImageAnnotatorClient(client_options=options, transport="rest")
        except (GoogleAuthError, ValueError) as error:  # ValueError: a file whose key is none
            log.warning("label detection: %s", error)
            raise DetectionUnavailableError(
                f"there are no credentials for {NAME}: set GOOGLE_APPLICATION_CREDENTIALS to the file of a service "
                "account (the server's log has the details)"
            ) from error

    def detect(self, given: UploadedFile) -> Detected:
        """Send a file as it is and return its labels, up to `MOST_LABELS`.

        Raises `DetectionUnavailableError`, and `DetectionRefusedError` for a picture that Google Cloud Vision can't read.
        """
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import vision
        from requests import RequestException

        request = vision.AnnotateImageRequest(
            image=vision.Image(content=given.data),
            features=[vision.Feature(type_=vision.Feature.Type.LABEL_DETECTION, max_results=MOST_LABELS)],
        )
        began = time.perf_counter()
        try:
            answer = self._client.batch_annotate_images(requests=[request], retry=None, timeout=SECONDS)
        except GoogleAPICallError as error:
            log.warning("label detection: %s", error)
            raise DetectionUnavailableError(f"{NAME} refuses requests: {error.message}") from error
        except (GoogleAuthError, RequestException) as error:
            log.warning("label detection: %s", error)
            raise DetectionUnavailableError(
                f"{NAME} can't be reached, or its credentials are refused; the server's log has the details"
            ) from error
        response: vision.AnnotateImageResponse = answer.responses[0]
        if response.error.code:
            raise DetectionRefusedError(f"{NAME}: {response.error.message}")
        labels = [
            DetectedLabel(one.description, one.mid, min(max(one.score, 0.0), 1.0))
            for one in response.label_annotations
        ]
        return Detected(
            given.name or UNNAMED,
            tuple(sorted(labels, key=lambda one: (-one.score, one.name))),
            round(1000 * (time.perf_counter() - began), 1),
        )
