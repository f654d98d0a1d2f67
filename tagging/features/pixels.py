"""The pixels themselves, and the pixels of a model that also trains on mirrored images."""

from ingest.image import IMAGE_BYTES
from tagging.features import Features
from tagging.types import Codes, Images


class Pixels(Features):
    """The 3,072 bytes of an image."""

    @property
    def length(self) -> int:
        """As in `tagging.features.Features`."""
        return IMAGE_BYTES

    def codes(self, images: Images) -> Codes:
        """As in `tagging.features.Features`."""
        return images


class Flips(Pixels):
    """The same; a model is trained on each image twice, as it is and mirrored."""

    mirrored = True
