"""The pictures of an image of annotations: in corpora with a picture of its name, with the tags of published runs."""

from flask import current_app

from indexing.query.search import find_image
from indexing.solr_errors import SolrError
from ingest.corpus import Corpus
from ingest.names import stem
from ingest.partition import NoImageError
from search_ui import api_annotations as api
from search_ui.library import image_url, png_url, version_of
from search_ui.sources import sources
from storage.store import StoreError

MOST = 4  # pictures of one name that are shown


def find_pictures(image: str) -> list[api.AnnotatedPicture]:
    """Return up to `MOST` images of corpora whose name is ``image``; without those that can't be read now."""
    pictures: list[api.AnnotatedPicture] = []
    try:
        for corpus, record in sources().library.records(image):
            partition, row = divmod(record, corpus.partition_images)
            if record < corpus.images and _has_name(corpus, partition, row, image):
                pictures.append(_picture(corpus, partition, row))
                if len(pictures) == MOST:
                    break
    except StoreError as error:  # the labels are useful without
        current_app.logger.warning("%s", error)
    return pictures


def _has_name(corpus: Corpus, partition: int, row: int, image: str) -> bool:
    """Return whether an image is there and has this name: the index of names has bad records, too."""
    try:
        names = sources().library.image(corpus, partition, row).names
    except NoImageError:
        return False
    return bool(names and names[0] and stem(names[0]) == image)


def _picture(corpus: Corpus, partition: int, row: int) -> api.AnnotatedPicture:
    return {
        "corpus": corpus.name,
        "partition": partition,
        "row": row,
        "url": image_url(corpus.name, partition, row),
        "png": png_url(corpus.name, partition, row, version_of(corpus)),
        "tags": _tags(corpus.name, partition, row),
    }


def _tags(corpus: str, partition: int, row: int) -> list[api.PictureTag] | None:
    try:
        hits = find_image(sources().solr, sources().published, corpus, partition, row)
    except SolrError as error:
        current_app.logger.warning("%s", error)
        return None
    return [
        {"tag": hit["tag"], "confidence": hit["confidence"], "model": hit["model"], "run": hit["run"]}
        for hit in hits
    ]
