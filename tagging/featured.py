"""A model of features: it computes an image's features, and a forest or a linear model votes on these."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from conf.errors import TinyTagsError
from storage import checked_json
from tagging.features import Features, arrays, features_class
from tagging.model import Model, kind_class
from tagging.types import Codes, Images, Votes

if TYPE_CHECKING:
    from storage.store import Store

FILE = "featured.json"


@dataclass(frozen=True, eq=False)
class Featured:
    """``head`` is a model that takes the codes of ``features`` as others take pixels."""

    kind: ClassVar[str] = "featured"

    features: Features
    head: Model

    @property
    def classes(self) -> tuple[str, ...]:
        """As in `tagging.model.Model`."""
        return self.head.classes

    @property
    def voters(self) -> int | None:
        """As in `tagging.model.Model`: those of the head."""
        return self.head.voters

    @cached_property
    def hash(self) -> str:
        """As in `tagging.model.Model`."""
        return arrays.digest(self.kind, self.features.hash, self.head.hash)

    def votes(self, images: Images) -> Votes:
        """As in `tagging.model.Model`."""
        return self.head.votes(self.features.codes(images))

    def votes_of(self, codes: Codes) -> Votes:
        """Return the same for the ``codes`` (n, length) of the images, which the store may have."""
        return self.head.votes(codes)

    def files(self) -> dict[str, bytes]:
        """As in `tagging.model.Model`."""
        about = {
            "features": self.features.name,
            "features_version": self.features.version,
            "head": self.head.kind,
        }
        return {FILE: checked_json.encode(about)} | self.features.files() | self.head.files()

    @classmethod
    def load(cls, store: "Store", folder: str) -> "Featured":
        """As in `tagging.model.Model`. Raises `UnknownFeaturesError` for features that this version lacks."""
        path = f"{folder}/{FILE}"
        about: dict[str, Any] = store.read_json(path)
        name, version = about.get("features"), about.get("features_version")
        kind = features_class(name)
        if version != kind.version:
            raise TinyTagsError(
                f"{store.url(path)}: features {name!r} have version {version}, this TinyTags has version {kind.version}; train the "
                "model again"
            )
        return cls(kind.load(str(name), store, folder), kind_class(about.get("head")).load(store, folder))
