"""Searches of annotations in Solr: counts of all of them, images by classes, one image; relations are in `indexing.query.relations`."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

from conf.errors import TinyTagsError
from indexing.solr import Solr
from indexing.solr_errors import SolrError

ANSWER_SECONDS = 10.0
BATCH = 5_000  # documents of an export in one request
SEPARATOR = "\x1f"
IMAGE_FIELDS = "id,classes"
RELATION_FIELDS = "image,class1,relation,class2"
# The orders of images, the first by default.
IMAGE_SORTS = ("matching", "id")
BY_ID = "id asc"  # of relations: by image
T = TypeVar("T")
# More classes than this are ordered by scores.
MOST_STEPS = 5
Document = dict[str, Any]
Params = dict[str, Any]


class Index(NamedTuple):
    """An open index of one shard: another one, or another state of it, differs in one of these values."""

    folder: str
    version: int
    documents: int
    with_deleted: int
    modified: str | None


# By Solr's address and alias: counts of all documents with the index that they are of, and the index that was found to have
# all documents.
_KEPT: dict[tuple[str, str], tuple[Index, Any]] = {}
_WHOLE: dict[tuple[str, str], Index] = {}


class CountedFacet(NamedTuple):
    """A field whose values are counted, and how many values, those with most documents; -1 is all of them.

    With ``kept`` Solr keeps the documents of each value in its cache, a bit each, and counts the bits that they have in common with
    those of a search, instead of going through the latter: only for a field with few values.
    """

    field: str
    limit: int
    kept: bool = False


@dataclass(frozen=True)
class Hits:
    """Documents of one page of a search, how many there are in all, and counts by facet and value."""

    total: int
    documents: list[Document]
    facets: dict[str, dict[str, int]]


def class_counts(solr: Solr, alias: str) -> dict[str, int]:
    """Return the number of images of each class that an image has, by the class's id."""
    index = read_index(solr, alias)
    if (frequencies := document_frequencies(solr, alias, "classes", index)) is not None:
        return frequencies

    def count() -> dict[str, int]:
        params = {"q": "*:*", "rows": 0, "json.facet": json.dumps({"classes": terms("classes", -1)})}
        return _counts(select(solr, alias, params)["facets"].get("classes"))

    return _of_version(solr, alias, index, count)


def most_frequent(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return the ``limit`` values with the highest counts (-1: all), in the order of a facet: by count, then by value."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered if limit < 0 else ordered[:limit])


def relation_counts(solr: Solr, images: str, relations: str) -> list[tuple[str, int, int]]:
    """Return each type of relation with the number of its images and of its rows, by name."""
    index = read_index(solr, relations)
    rows = document_frequencies(solr, relations, "relation", index)
    of_images = None if rows is None else document_frequencies(solr, images, "relations")
    if of_images is not None and rows is not None and of_images.keys() == rows.keys():
        return sorted((name, of_images[name], count) for name, count in rows.items())

    def count() -> list[tuple[str, int, int]]:
        facet = terms("relation", -1) | {"facet": {"images": "unique(image)"}}
        params = {"q": "*:*", "rows": 0, "json.facet": json.dumps({"relations": facet})}
        answer = select(solr, relations, params)["facets"].get("relations", {"buckets": []})
        return sorted((bucket["val"], bucket["images"], bucket["count"]) for bucket in answer["buckets"])

    return _of_version(solr, relations, index, count)


def images_query(
    groups: Sequence[Sequence[str]], every: bool, relation: str | None = None, sort: str = "matching"
) -> Params:
    """Return the parameters of a search for images with classes.

    ``groups`` are the ids that stand for each class asked for; each that an image has counts 1 in its score. With
    ``every`` all must match. ``relation`` is a type that one of the image's relations has. ``sort`` is one of `IMAGE_SORTS`:
    by how many classes match, then by id, or by id alone.
    """
    params: Params = {"q": "*:*", "fl": IMAGE_FIELDS, "sort": BY_ID}
    if groups:
        params["q"] = _matching(len(groups), len(groups) if every else 1)
        if sort == "matching" and len(groups) > 1 and not every:  # else all match the same number
            params["sort"] = "score desc,id asc"
        params |= {f"class{n}": _any_of(group) for n, group in enumerate(groups)}
    if relation:
        params |= {"fq": "{!term tag=relation f=relations v=$relation}", "relation": relation}
    return params


def _any_of(labels: Sequence[str]) -> str:
    """Return the query for images with any of these classes, each of which scores 1."""
    return f"{{!terms f=classes separator='{SEPARATOR}'}}{SEPARATOR.join(labels)}"


def _matching(groups: int, least: int, most: int | None = None) -> str:
    """Return the query for images that match at least ``least`` of the groups, and at most ``most``."""
    clauses = " ".join(f"should=$class{n}" for n in range(groups))
    if most is not None and most < groups:
        clauses += f" must_not='{_matching(groups, most + 1)}'"
    return f"{{!bool {clauses} mm={least}}}"


def find(
    solr: Solr,
    alias: str,
    params: Params,
    start: int,
    rows: int,
    facets: Mapping[str, CountedFacet] | None = None,
    seconds: float = ANSWER_SECONDS,
) -> Hits:
    """Return a page of a search. ``facets`` maps a filter's tag to what is counted.

    A facet leaves out the filter of its own tag: a count is what choosing the value instead gives.
    """
    facet_requests = {
        tag: _facet(facet) | {"domain": {"excludeTags": tag}} for tag, facet in (facets or {}).items()
    }
    more = {"json.facet": json.dumps(facet_requests)} if facet_requests else {}
    answer = select(solr, alias, params | {"start": start, "rows": rows} | more, seconds)
    counts = {
        tag: most_frequent(_counts(answer["facets"].get(tag)), facet.limit)
        for tag, facet in (facets or {}).items()
    }
    return Hits(answer["response"]["numFound"], answer["response"]["docs"], counts)


def find_first(solr: Solr, alias: str, params: Params, start: int, rows: int, counted: int) -> Hits:
    """Return a page of a search in the order of ids, which need not visit all hits: they are counted as far as ``counted``.

    With fewer, ``total`` is exact; else it is at least ``counted``.
    """
    # Of a filter Solr finds all documents first. The query *:* alone it answers in another way, which fails where it stops early.
    filters = params.get("fq", [])
    queries = [params["q"], *([filters] if isinstance(filters, str) else filters)]
    clauses = {f"clause{n}": one for n, one in enumerate(queries)}
    query = {key: value for key, value in params.items() if key != "fq"} | clauses
    query["q"] = f"{{!bool {' '.join(f'must=${name}' for name in clauses)}}}"
    return find(solr, alias, query | {"minExactCount": counted}, start, rows)


def find_images(
    solr: Solr,
    alias: str,
    groups: Sequence[Sequence[str]],
    params: Params,
    start: int,
    rows: int,
    facets: Mapping[str, CountedFacet] | None = None,
) -> Hits:
    """Do what `find` does for the ``params`` that `images_query` returns for these groups.

    A few classes are ordered without a score of each image: those that match all, then those that match one less, and so on
    until the page is full. Each of these searches ends with the last image of the page, as the index is in the order of ids.
    Meanwhile Solr counts all images with any of the classes.
    """
    if not (1 < len(groups) <= MOST_STEPS and params["sort"] != BY_ID):
        return find(solr, alias, params, start, rows, facets)
    kept = all(facet.kept for facet in (facets or {}).values())
    with ThreadPoolExecutor(1) as pool:
        if kept:
            counting = pool.submit(_count_any, solr, alias, groups, params, facets or {})
        else:
            counting = pool.submit(find, solr, alias, params | {"sort": BY_ID}, 0, 0, facets)
        documents = _first_images(solr, alias, len(groups), params, start, rows)
        counted = counting.result()
    return Hits(counted.total, documents, counted.facets)


def _first_images(
    solr: Solr, alias: str, groups: int, params: Params, start: int, rows: int
) -> list[Document]:
    """Return a page of the images with any of the classes, those with most of them first."""
    documents: list[Document] = []
    before = 0  # images that match more
    for count in range(groups, 0, -1):
        left = start + rows - before
        if left <= 0:
            break
        step = params | {"q": _matching(groups, count, count), "sort": BY_ID}
        answer = find_first(solr, alias, step, max(start - before, 0), rows - len(documents), left)
        documents += answer.documents
        before += answer.total
    return documents


def _count_any(
    solr: Solr,
    alias: str,
    groups: Sequence[Sequence[str]],
    params: Params,
    facets: Mapping[str, CountedFacet],
) -> Hits:
    """Return the counts of images with any of the classes: those of all images without those with none.

    Solr makes the images without a class from the list of those with it, bit by bit; collecting those with any of several takes
    two to three times as long.
    """
    classes = {
        # Of a single term Solr reads the list into bits at once; of a list of one term it does not.
        f"class{n}": f"{{!term f=classes}}{group[0]}" if len(group) == 1 else _any_of(group)
        for n, group in enumerate(groups)
    }
    none = [f"{{!bool tag=class must_not=${name}}}" for name in classes]
    filters = [*none, *([params["fq"]] if "fq" in params else [])]
    facet_requests: dict[str, Any] = {
        "all": {"type": "query", "q": "*:*", "domain": {"excludeTags": "class"}}
    }
    for tag, facet in facets.items():
        facet_requests[f"all-{tag}"] = _facet(facet) | {"domain": {"excludeTags": f"class,{tag}"}}
        facet_requests[f"none-{tag}"] = _facet(facet) | {"domain": {"excludeTags": tag}}
    body = params | classes | {"q": "*:*", "fq": filters, "rows": 0, "json.facet": json.dumps(facet_requests)}
    answer = select(solr, alias, body)
    counted = answer["facets"]
    counts = {}
    for tag, facet in facets.items():
        with_any = _counts(counted.get(f"all-{tag}"))
        for value, count in _counts(counted.get(f"none-{tag}")).items():
            with_any[value] -= count
        counts[tag] = most_frequent({value: n for value, n in with_any.items() if n}, facet.limit)
    return Hits(counted["all"]["count"] - answer["response"]["numFound"], [], counts)


def every(solr: Solr, alias: str, params: Params, limit: int | None = None) -> Iterator[list[Document]]:
    """Yield all documents of a search in its order, which ends with the id, or the first ``limit`` of them, in batches."""
    cursor, last, left = "*", "", limit
    while cursor != last and left != 0:
        rows = BATCH if left is None else min(BATCH, left)
        answer = select(solr, alias, params | {"rows": rows, "cursorMark": cursor})
        documents = answer["response"]["docs"]
        yield documents
        left = None if left is None else left - len(documents)
        cursor, last = answer["nextCursorMark"], cursor


def find_image(solr: Solr, images: str, relations: str, image: str) -> tuple[Document, list[Document]] | None:
    """Return an image with its relations; None where there is none of this id."""
    params = {
        "q": "{!term f=id v=$image}",
        "image": image,
        "rows": 1,
        "fl": "id,classes,absent,machine",
    }
    documents = select(solr, images, params)["response"]["docs"]
    if not documents:
        return None
    query = {"q": "{!term f=image v=$image}", "image": image, "fl": RELATION_FIELDS, "sort": BY_ID}
    return documents[0], [document for batch in every(solr, relations, query) for document in batch]


def select(solr: Solr, alias: str, params: Params, seconds: float = ANSWER_SECONDS) -> Any:
    """Search, and return Solr's answer. Raises `TinyTagsError` where the annotations are not in Solr."""
    with _of_annotations(alias):
        return solr.select(alias, params, seconds)


@contextlib.contextmanager
def _of_annotations(alias: str) -> Iterator[None]:
    try:
        yield
    except SolrError as error:
        if error.status != 404:
            raise
        raise TinyTagsError(
            f"alias {alias!r} is not in Solr; `tinytags annotations DIR --name NAME` indexes annotations"
        ) from None


def _of_version(solr: Solr, alias: str, index: Index | None, count: Callable[[], T]) -> T:
    """Return what ``count`` returns of all documents; it is kept until the index changes.

    ``index`` was read before: one that changes meanwhile is counted again the next time.
    """
    if index is None:
        return count()
    known, value = _KEPT.get((solr.url, alias), (None, None))
    if known != index:
        value = count()
        _KEPT[solr.url, alias] = index, value
    return cast(T, value)


def read_index(solr: Solr, alias: str) -> Index | None:
    """Return what the open index behind an alias is; None where it has more than one shard."""
    with _of_annotations(alias):
        about = {"show": "index", "numTerms": 0}
        read = solr.read(f"{quote(alias)}/admin/luke", about, ANSWER_SECONDS, "index")
    of_index: dict[str, Any] = read["index"]
    # Without the number of Solr's lock object, which differs after each start.
    folder = of_index["directory"].partition(" lockFactory=")[0]
    index = Index(
        folder, of_index["version"], of_index["numDocs"], of_index["maxDoc"], of_index.get("lastModified")
    )
    if _WHOLE.get((solr.url, alias)) != index:
        if select(solr, alias, {"q": "*:*", "rows": 0})["response"]["numFound"] != index.documents:
            return None
        _WHOLE[solr.url, alias] = index
    return index


def document_frequencies(
    solr: Solr, alias: str, field: str, index: Index | None = None
) -> dict[str, int] | None:
    """Return how many documents have each value of a field, as the index keeps it; a facet would count them all each time.

    None where that is not the number of visible documents: some are deleted but still there, or there is more than one shard.
    """
    index = index or read_index(solr, alias)
    if index is None or index.documents != index.with_deleted:
        return None
    parameters = {"terms.fl": field, "terms.limit": -1, "terms.sort": "index", "json.nl": "map"}
    answer = solr.read(f"{quote(alias)}/terms", parameters, ANSWER_SECONDS, "terms")
    frequencies: dict[str, int] = answer["terms"].get(field, {})
    return frequencies


def _facet(facet: CountedFacet) -> dict[str, Any]:
    if facet.kept:
        return terms(facet.field, -1) | {"method": "enum", "sort": "index asc", "cacheDf": 1}
    return terms(facet.field, facet.limit)


def terms(field: str, limit: int) -> dict[str, Any]:
    """Return a facet of the values of a field, for Solr's ``json.facet``."""
    return {"type": "terms", "field": field, "limit": limit}


def _counts(facet: Any) -> dict[str, int]:
    return {bucket["val"]: bucket["count"] for bucket in facet["buckets"]} if facet else {}
