"""The JSON responses about annotations as types, like those of `search_ui.api`."""

from typing_extensions import TypedDict

from search_ui.schemas import Count, Share


class AnnotationsSummary(TypedDict):
    annotations: str
    classes: Count
    url: str


class AnnotationsList(TypedDict):
    annotations: list[AnnotationsSummary]


ClassCount = TypedDict("ClassCount", {"class": str, "label": str, "images": Count})


class ClassCounts(TypedDict):
    """Classes that images have; ``label`` is the id."""

    total: Count
    classes: list[ClassCount]


class RelationCount(TypedDict):
    relation: str
    images: Count
    rows: Count


class RelationCounts(TypedDict):
    relations: list[RelationCount]


class Suggestions(TypedDict):
    suggestions: list[str]


class AnnotatedImage(TypedDict):
    image: str
    matching: list[str]
    classes: list[str]


class AnnotatedImages(TypedDict):
    total: Count
    images: list[AnnotatedImage]


class RelationRow(TypedDict):
    image: str
    class1: str
    relation: str
    class2: str


class RelationRows(TypedDict):
    total: Count
    rows: list[RelationRow]


class ImageRelation(TypedDict):
    class1: str
    relation: str
    class2: str


class PictureTag(TypedDict):
    tag: str
    confidence: Share
    model: str
    run: str


class AnnotatedPicture(TypedDict):
    """An image of a corpus whose name is the id; ``tags`` are those of published runs, None where these can't be read now."""

    corpus: str
    partition: Count
    row: Count
    url: str
    png: str
    tags: list[PictureTag] | None


MachineLabel = TypedDict("MachineLabel", {"class": str, "confidence": Share})


class ImageAnnotations(TypedDict):
    """An image: the classes that people verified as present and as absent, those of models, its relations and pictures.

    ``page`` is the data set's own page of the image; None where the id isn't one of Open Images.
    """

    image: str
    present: list[str]
    absent: list[str]
    machine: list[MachineLabel]
    relations: list[ImageRelation]
    pictures: list[AnnotatedPicture]
    page: str | None
