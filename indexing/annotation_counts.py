"""Counts of searches that have many images, made once with the index: those of one class or type of relation, and of all images.

They are in one file of the store, with the state of the index that they are of. The pages use them while the index is in this state,
and count live otherwise: without the file, with a damaged one, and after any change of the index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conf.progress import Progress
from indexing.query import annotations as query
from indexing.query import relations as relation_query
from indexing.solr import READ_SECONDS, Solr
from ingest.annotations.manifest import open_annotations
from storage import layout
from storage.store import Store, StoreError, StoreUnavailableError

# Fewer images are counted live, in milliseconds.
LIVE_IMAGES = 10_000
# Relations of more kinds than this are counted live: a search goes through all kinds that are kept.
MOST_KINDS = 20_000
# How many values of a facet the pages show, and how many names they suggest, most frequent first.
LISTED, SUGGESTED = 15, 100
FACETS = {
    "relation": query.CountedFacet("relations", LISTED),
    "class": query.CountedFacet("classes", SUGGESTED),
}
# Types of relations are counted by the images that Solr keeps of each where these need at most so many bytes, a bit for each
# image: half of its cache (conf/solr/annotations/solrconfig.xml).
MOST_BYTES = 32_000_000
Facets = dict[str, dict[str, int]]  # counts by facet and value


@dataclass(frozen=True)
class AnnotationCounts:
    """The number of images of each class and of each type of relation, by value; ``of_class`` and ``of_relation`` have the facets
    of the searches with many images. ``rows`` are the numbers of relations by type, ``kinds`` by both classes and type; without
    these where there are too many.
    """

    images_index: query.Index
    relations_index: query.Index
    classes: dict[str, int]
    relations: dict[str, int]
    rows: dict[str, int]
    kinds: list[relation_query.RelationKind] | None
    of_class: dict[str, Facets]
    of_relation: dict[str, Facets]

    @property
    def can_keep_types(self) -> bool:
        """Whether Solr's cache can hold the images of each type of relation."""
        return len(self.relations) * self.images_index.documents / 8 <= MOST_BYTES

    @cached_property
    def values(self) -> dict[str, set[str]]:
        """The values of each part of the kinds of relations."""
        return {
            part: {str(kind[at]) for kind in self.kinds or ()} for at, part in enumerate(relation_query.PARTS)
        }


def read_counts(store: Store, name: str) -> AnnotationCounts | None:
    """Return the counts in the store; None where there are none, or damaged ones. Raises `StoreUnavailableError`."""
    try:
        document = store.read_json(layout.annotations_counts(name))
        images, relations = (query.Index(*document.pop(key)) for key in ("images_index", "relations_index"))
        kinds = document.pop("kinds")
        return AnnotationCounts(
            images_index=images,
            relations_index=relations,
            kinds=None if kinds is None else [relation_query.RelationKind(*kind) for kind in kinds],
            **document,
        )
    except StoreUnavailableError:
        raise
    except (StoreError, TypeError, KeyError):
        return None


def write_counts(store: Store, name: str, solr: Solr) -> bool:
    """Count what `AnnotationCounts` has and write it, where it isn't there or is of another state of the index.

    Returns whether the counts in the store are of the index now: not where it has several shards, or changes meanwhile.
    """
    aliases = [part.alias for part in open_annotations(store, name).sets]
    indexes = [query.read_index(solr, alias) for alias in aliases]
    images, relations = indexes
    if images is None or relations is None:
        return False
    known = read_counts(store, name)
    if known and [known.images_index, known.relations_index] == indexes:
        return True
    counts = count_all(solr, *aliases)
    if [query.read_index(solr, alias) for alias in aliases] != indexes:
        return False
    store.write_json(
        layout.annotations_counts(name), counts | {"images_index": images, "relations_index": relations}
    )
    return True


def check_counts(store: Store, name: str, solr: Solr) -> str | None:
    """Return what is wrong with the counts in the store: damaged, or not those of the index that they are of. None where nothing is.

    Counts of another state of the index are not used, and so not wrong.
    """
    path = layout.annotations_counts(name)
    if not store.exists(path):
        return None
    known = read_counts(store, name)
    if known is None:
        return f"{store.url(path)} is damaged"
    aliases = [part.alias for part in open_annotations(store, name).sets]
    indexes = [known.images_index, known.relations_index]
    if [query.read_index(solr, alias) for alias in aliases] != indexes:
        return None
    if any(getattr(known, key) != value for key, value in count_all(solr, *aliases).items()):
        return f"{store.url(path)} has other counts than the index"
    return None


def count_all(solr: Solr, images: str, relations: str) -> dict[str, Any]:
    """Return the counts of an index as `AnnotationCounts` has them, without the state of the index."""
    every = {"relations": query.CountedFacet("relations", -1), "classes": query.CountedFacet("classes", -1)}
    of_images = _count(solr, images, [], None, every)
    all_rows = relation_query.relations_query(dict.fromkeys(relation_query.PARTS, "%"))
    of_rows = {"rows": query.CountedFacet("relation", -1), "first": query.CountedFacet("class1", -1)}
    rows = query.find(solr, relations, all_rows, 0, 0, of_rows, READ_SECONDS).facets
    kinds = relation_query.relation_kinds(solr, relations, rows["first"], MOST_KINDS, READ_SECONDS)
    classes, types = of_images["classes"], of_images["relations"]
    large = [label for label, count in classes.items() if count >= LIVE_IMAGES]
    large_types = [one for one, count in types.items() if count >= LIVE_IMAGES]
    of_class, of_relation = {}, {}
    with Progress("counts", len(large) + len(large_types), "searches") as progress:
        for label in large:
            of_class[label] = _count(solr, images, [[label]], None, FACETS)
            progress.add(1)
        for one in large_types:
            of_relation[one] = _count(solr, images, [], one, {"class": FACETS["class"]})
            progress.add(1)
    return {
        "classes": classes, "relations": types, "rows": rows["rows"], "kinds": kinds, "of_class": of_class,
        "of_relation": of_relation,
    }  # fmt: skip


def _count(
    solr: Solr,
    images: str,
    groups: Sequence[Sequence[str]],
    relation: str | None,
    facets: Mapping[str, query.CountedFacet],
) -> Facets:
    params = query.images_query(groups, every=False, relation=relation)
    return query.find(solr, images, params, 0, 0, facets, READ_SECONDS).facets
