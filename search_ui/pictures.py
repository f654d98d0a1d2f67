"""The pictures of an image of annotations: in corpora with a picture of its name, with the tags of published runs."""

from flask import current_app

from indexing.query.search import find_image
from indexing.solr import SolrError
from ingest.corpus import Corpus
from ingest.names import stem
from search_ui import api_annotations as api
from search_ui.library import image_url, png_url, version_of
from search_ui.sources import sources
from storage.store import StoreError

MOST = 4  # pictures of one name that are shown


def find_pictures(image: str) -> list[api.AnnotatedPicture]:
    """Return up to `MOST` images of corpora whose name is ``image``; none where the store can't be read now."""
    library = sources().library
    found: list[api.AnnotatedPicture] = []
    try:
        for corpus, record in library.records(image):
            partition, row = divmod(record, corpus.partition_images)
            names = library.image(corpus, partition, row).names if record < corpus.images else None
            if names and names[0] and stem(names[0]) == image and len(found) < MOST:
                found.append(_picture(corpus, partition, row))
    except StoreError as error:  # the labels are useful without
        current_app.logger.warning("%s", error)
    return found


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
