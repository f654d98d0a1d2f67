"""Annotations as the pages show them: searches by the names of classes, and answers with names for ids."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from flask import abort
from werkzeug.datastructures import MultiDict

from indexing.annotation_counts import LISTED, SUGGESTED, AnnotationCounts, Facets
from indexing.query import annotations as query
from indexing.query import relations as relation_query
from indexing.query.search_state import BadSearchError, check_parameters, quote_value
from indexing.solr import Solr
from ingest.annotations.classes import Classes
from search_ui import api_annotations as api
from search_ui.pictures import find_pictures
from search_ui.sources import sources

PER_PAGE, LONG_PAGE = 30, 200  # rows of a page; of classes, or of a CSV that is asked for by pages
MOST_LIMIT = 100_000
MOST_START = 1_000_000  # beyond, Solr needs seconds for a page; the CSV has all
MOST_CLASSES = 50
MOST_URLS = 20_000
LONGEST = 500
ESCAPE = "\\"  # in links to a value that has a %
# The page of an image in the viewer of Open Images.
OPEN_IMAGES = "https://storage.googleapis.com/openimages/web/visualizer/index.html?id={}"


@dataclass(frozen=True)
class Opened:
    """Annotations that a URL names."""

    name: str
    classes: Classes

    @property
    def images(self) -> str:
        return f"{self.name}-images"

    @property
    def relations(self) -> str:
        return f"{self.name}-relations"

    def url(self, place: str = "", /, **parameters: Any) -> str:
        """Return the address of a page; parameters without a value are left out."""
        return _url(self.name, place, parameters)

    def relations_url(self, **parts: str | None) -> str:
        """Return the address of the search for relations whose parts are exactly these values, also with a ``%``."""
        return _relations_url(self.name, tuple(parts.items()))

    def class_url(self, name: str) -> str:
        """Return the address of the images with a class."""
        return _class_url(self.name, name)

    def image_url(self, image: str) -> str:
        return self.url(f"images/{quote(image, safe='')}")

    def names(self, labels: list[str]) -> list[str]:
        """Return the names of classes, sorted, each once."""
        return sorted({self.classes.name(label) for label in labels})


def _url(annotations: str, place: str, parameters: Mapping[str, Any]) -> str:
    given = {key: value for key, value in parameters.items() if value not in (None, "", [])}
    address = f"/annotations/{quote(annotations)}/{place}"
    return address + (f"?{urlencode(given, doseq=True)}" if given else "")


# A page has hundreds of these addresses, most of them several times; making them took a third of its time.
@functools.lru_cache(MOST_URLS)
def _class_url(annotations: str, name: str) -> str:
    return _url(annotations, "images", {"class": [name]})


@functools.lru_cache(MOST_URLS)
def _relations_url(annotations: str, parts: tuple[tuple[str, str | None], ...]) -> str:
    values = {part: value for part, value in parts if value is not None}
    return _url(annotations, "relation-search", RelationSearch({}, None, "image").parameters(**values))


def open_named(name: str) -> Opened:
    """Return annotations; 404 where there are none of this name, 503 where they aren't in Solr."""
    classes = sources().library.annotations(name)
    if classes is None:
        abort(404, f"There are no annotations {name!r} in the store.")
    return Opened(name, classes)


def solr() -> Solr:
    return sources().solr


def known_counts(opened: Opened) -> AnnotationCounts | None:
    """Return the counts that were made with the index; None where it isn't the same any more, or has none."""
    index = query.read_index(solr(), opened.images)
    return sources().library.annotation_counts(opened.name, index) if index else None


def known_relation_counts(opened: Opened) -> AnnotationCounts | None:
    """Return what `known_counts` does, where the index of relations is the same."""
    index = query.read_index(solr(), opened.relations)
    return sources().library.annotation_counts(opened.name, relations=index) if index else None


def class_counts(opened: Opened) -> dict[str, int]:
    """Return the number of images of each class that an image has, by the class's id."""
    counts = known_counts(opened)
    return counts.classes if counts else query.class_counts(solr(), opened.images)


def frequent_classes(opened: Opened) -> list[str]:
    """Return the names of the classes that most images have, also where the counts are of an earlier index."""
    counts = sources().library.annotation_counts(opened.name)
    labels = counts.classes if counts else query.class_counts(solr(), opened.images)
    return list(by_name(opened.classes, query.most_frequent(labels, SUGGESTED)))


def relation_counts(opened: Opened) -> list[tuple[str, int, int]]:
    """Return each type of relation with the number of its images and of its rows, by name."""
    images, relations = (query.read_index(solr(), alias) for alias in (opened.images, opened.relations))
    known = images and relations and sources().library.annotation_counts(opened.name, images, relations)
    if (
        counts := known or None
    ) and counts.relations.keys() == counts.rows.keys():  # not where Solr rejected some
        return [(one, counts.relations[one], rows) for one, rows in sorted(counts.rows.items())]
    return query.relation_counts(solr(), opened.images, opened.relations)


@dataclass(frozen=True)
class Page:
    """Which rows of an answer: ``limit`` of them, from those of ``page``; None is all."""

    limit: int | None
    page: int

    @property
    def start(self) -> int:
        return (self.page - 1) * (self.limit or 0)

    @classmethod
    def parse(cls, args: MultiDict[str, str], default: int | None) -> "Page":
        """Read ``limit`` and ``page``. Raises `BadSearchError`."""
        limit, number = _whole(args, "limit", MOST_LIMIT) or default, _whole(args, "page", MOST_START)
        page = number or 1
        if number and limit is None:
            limit = LONG_PAGE
        if limit and (page - 1) * limit > MOST_START:
            raise BadSearchError(f"numbered pages end at row {MOST_START:,}; the CSV has all of them")
        return cls(limit, page)


@dataclass(frozen=True)
class ImageSearch:
    """The search of images by classes."""

    classes: tuple[str, ...]
    every: bool
    descendants: bool
    relation: str | None
    sort: str

    @classmethod
    def parse(cls, args: MultiDict[str, str]) -> "ImageSearch":
        """Read ``class`` (several), ``match``, ``descendants``, ``relation`` and ``sort``. Raises `BadSearchError`."""
        names = ("class", "match", "descendants", "relation", "sort", "limit", "page")
        check_parameters(args, names, several=("class",))
        classes = tuple(dict.fromkeys(text_of("class", value) for value in args.getlist("class") if value))
        if len(classes) > MOST_CLASSES:
            raise BadSearchError(f"class is given {len(classes)} times; the limit is {MOST_CLASSES}")
        match, descendants = args.get("match") or "any", args.get("descendants") or "0"
        if match not in ("any", "all"):
            raise BadSearchError(f"match is {quote_value(match)}; it can be any or all")
        if descendants not in ("0", "1"):
            raise BadSearchError(f"descendants is {quote_value(descendants)}; it can be 0 or 1")
        relation = text_of("relation", args.get("relation") or "") or None
        return cls(classes, match == "all", descendants == "1", relation, parse_sort(args, query.IMAGE_SORTS))

    def parameters(self, **changed: Any) -> dict[str, Any]:
        """Return the parameters of the URL, some of them ``changed``."""
        return {
            "class": list(self.classes), "match": "all" if self.every else None,
            "descendants": "1" if self.descendants else None, "relation": self.relation,
            "sort": None if self.sort == query.IMAGE_SORTS[0] else self.sort,
        } | changed  # fmt: skip

    def groups(self, classes: Classes) -> list[list[str]]:
        """Return the ids that stand for each class."""
        groups = [classes.labels(name) for name in self.classes]
        return [sorted(classes.with_kinds(group)) for group in groups] if self.descendants else groups

    def params(self, classes: Classes) -> query.Params:
        """Return the search for Solr."""
        return query.images_query(self.groups(classes), self.every, self.relation, self.sort)

    def find(
        self, opened: Opened, start: int, rows: int, facets: Mapping[str, query.CountedFacet]
    ) -> query.Hits:
        """Return a page of the search, with counts by facet.

        Of all images, of one class or of one type of relation, the counts made with the index are used, where there are some.
        """
        groups, params = self.groups(opened.classes), self.params(opened.classes)
        single = not groups or (len(groups) == 1 and len(groups[0]) == 1)
        counts = known_counts(opened) if single else sources().library.annotation_counts(opened.name)
        if counts and counts.can_keep_types:
            facets = {tag: facet._replace(kept=facet.field == "relations") for tag, facet in facets.items()}
        if counts is None or not single:
            return query.find_images(solr(), opened.images, groups, params, start, rows, facets)
        total, known = self._known(counts, groups[0][0] if groups else None)
        left = {tag: facet for tag, facet in facets.items() if tag not in known}
        if total is None or left:
            hits = query.find(solr(), opened.images, params, start, rows, left)
        else:
            hits = query.find_first(solr(), opened.images, params, start, rows, start + rows)
        known = {
            tag: query.most_frequent(known[tag], facet.limit) for tag, facet in facets.items() if tag in known
        }
        return query.Hits(hits.total if total is None else total, hits.documents, hits.facets | known)

    def _known(self, counts: AnnotationCounts, label: str | None) -> tuple[int | None, Facets]:
        """Return the number of images and counts by facet, as far as they were counted; a facet doesn't count its own filter."""
        of_class = counts.of_class.get(label, {}) if label else {"relation": counts.relations}
        if not self.relation:
            return counts.classes.get(label, 0) if label else counts.images_index.documents, of_class
        known = {tag: values for tag, values in of_class.items() if tag == "relation"}
        if label:
            return None, known
        return counts.relations.get(self.relation, 0), known | counts.of_relation.get(self.relation, {})

    def hits(self, opened: Opened, documents: list[query.Document]) -> Iterator[api.AnnotatedImage]:
        """Yield images with the classes that match, as they were asked for, and all of theirs."""
        groups = list(zip(self.classes, map(set, self.groups(opened.classes)), strict=True))
        for document in documents:
            there = document.get("classes", [])
            yield {
                "image": document["id"],
                "matching": [
                    _display_name(opened.classes, name) for name, group in groups if group.intersection(there)
                ],
                "classes": opened.names(there),
            }


def _display_name(classes: Classes, name: str) -> str:
    """Return a class's name as the files have it, however it was typed."""
    return classes.name(classes.labels(name)[0])


@dataclass(frozen=True)
class RelationSearch:
    """The search for relations by a pattern of each part; a part without a pattern matches everything."""

    patterns: dict[str, str]
    escape: str | None
    sort: str

    @classmethod
    def parse(cls, args: MultiDict[str, str]) -> "RelationSearch":
        """Read ``class1``, ``relation``, ``class2``, ``escape`` and ``sort``. Raises `BadSearchError`."""
        check_parameters(args, (*relation_query.PARTS, "escape", "sort", "limit", "page"))
        escape = args.get("escape") or None
        if escape and (len(escape) > 1 or escape == "%"):
            raise BadSearchError(f"escape is {quote_value(escape)}; it has to be one character other than %")
        patterns = {part: text_of(part, args.get(part) or "") for part in relation_query.PARTS}
        given = {part: text for part, text in patterns.items() if text.strip("%")}
        return cls(given, escape, parse_sort(args, tuple(relation_query.RELATION_SORTS)))

    def find(
        self, opened: Opened, start: int, rows: int, facets: Mapping[str, query.CountedFacet]
    ) -> query.Hits:
        """Return a page of the search, with counts by facet; counted are the kinds of relations, where these are kept."""
        counts = known_relation_counts(opened)
        if counts is None or counts.kinds is None:
            return query.find(solr(), opened.relations, self.params(), start, rows, facets)
        total, by_part = relation_query.count_kinds(counts.kinds, self._matching(opened, counts))
        params = self.params()
        listed = {part: query.most_frequent(by_part[part], facet.limit) for part, facet in facets.items()}
        if start >= total:
            return query.Hits(total, [], listed)
        if params["sort"] == query.BY_ID:
            hits = query.find_first(solr(), opened.relations, params, start, rows, start + rows)
        else:
            hits = query.find(solr(), opened.relations, params, start, rows)
        return query.Hits(total, hits.documents, listed)

    def _matching(self, opened: Opened, counts: AnnotationCounts) -> dict[str, set[str]]:
        """Return the classes and types that match, of each part."""
        matching: dict[str, set[str]] = {}
        for part, values in counts.values.items():
            pattern = self.patterns.get(part)
            if pattern is not None:
                name = str if part == "relation" else opened.classes.name
                texts = relation_query.split_pattern(pattern, self.escape)
                values = {one for one in values if relation_query.matches(name(one), texts)}
            matching[part] = values
        return matching

    def params(self) -> query.Params:
        """Return the search for Solr."""
        patterns = {part: self.patterns.get(part, "%") for part in relation_query.PARTS}
        return relation_query.relations_query(patterns, self.escape, self.sort)

    def is_value(self, part: str, value: str) -> bool:
        """Return whether the pattern of a part is this value, in any case."""
        texts = relation_query.split_pattern(self.patterns.get(part, "%"), self.escape)
        return len(texts) == 1 and texts[0].lower() == value.lower()

    def parameters(self, **values: str | None) -> dict[str, Any]:
        """Return the parameters of the URL, where each part of ``values`` is exactly this value, also with a ``%``, or anything for None."""
        patterns, escape = dict(self.patterns), self.escape
        if escape is None and any("%" in value for value in values.values() if value):
            escape = ESCAPE
            patterns = {part: text.replace(escape, escape * 2) for part, text in patterns.items()}
        for part, value in values.items():
            if value is None:
                patterns.pop(part, None)
            else:
                patterns[part] = "".join(
                    f"{escape}{one}" if escape and one in (escape, "%") else one for one in value
                )
        sort = None if self.sort == next(iter(relation_query.RELATION_SORTS)) else self.sort
        return {part: patterns.get(part) for part in relation_query.PARTS} | {"escape": escape, "sort": sort}


def parse_sort(args: MultiDict[str, str], sorts: tuple[str, ...]) -> str:
    """Read ``sort``; the first of ``sorts`` where it isn't given. Raises `BadSearchError`."""
    sort = args.get("sort") or sorts[0]
    if sort not in sorts:
        raise BadSearchError(f"sort is {quote_value(sort)}; it can be {', '.join(sorts[:-1])} or {sorts[-1]}")
    return sort


def suggest(opened: Opened, part: str, text: str) -> list[str]:
    """Return names of classes, or types of relations, with a text in them: those that begin with it first, then by name."""
    names: Iterable[str] = opened.classes.names.values()
    if part == "relation":
        names = [relation for relation, _, _ in relation_counts(opened)]
    wanted = text.lower()
    matching = {name for name in names if wanted in name.lower()}
    return sorted(matching, key=lambda name: (not name.lower().startswith(wanted), name.lower(), name))[
        :LISTED
    ]


def relation_rows(opened: Opened, documents: list[query.Document]) -> Iterator[api.RelationRow]:
    """Yield relations with the names of their classes."""
    for document in documents:
        yield {
            "image": document["image"],
            "class1": opened.classes.name(document["class1"]),
            "relation": document["relation"],
            "class2": opened.classes.name(document["class2"]),
        }


def by_name(classes: Classes, counts: dict[str, int]) -> dict[str, int]:
    """Return counts by the names of classes in place of their ids, most first."""
    named: dict[str, int] = {}
    for label, count in counts.items():
        named[classes.name(label)] = named.get(classes.name(label), 0) + count
    return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))


def describe_image(opened: Opened, image: str) -> api.ImageAnnotations:
    """Return all that is known of an image; 404 where there is none of this id."""
    documents = query.find_image(solr(), opened.images, opened.relations, image)
    if documents is None:
        abort(404, f"There is no image {image!r} in annotations {opened.name!r}.")
    document, relations = documents
    machine: list[api.MachineLabel] = []
    for value in document.get("machine", []):
        confidence, _, label = value.partition(" ")
        machine.append({"class": opened.classes.name(label), "confidence": float(confidence)})
    return {
        "image": image,
        "present": opened.names(document.get("classes", [])),
        "absent": opened.names(document.get("absent", [])),
        "machine": sorted(machine, key=lambda one: (-one["confidence"], one["class"])),
        "relations": [
            {"class1": row["class1"], "relation": row["relation"], "class2": row["class2"]}
            for row in relation_rows(opened, relations)
        ],
        "pictures": find_pictures(image),
        "page": OPEN_IMAGES.format(image) if re.fullmatch("[0-9a-f]{16}", image) else None,
    }


def text_of(name: str, value: str) -> str:
    """Return the value of a parameter. Raises `BadSearchError` for one that is too long, or has a control character."""
    if any(one < " " for one in value):
        raise BadSearchError(f"{name} is {quote_value(value)}; it can't have control characters")
    if len(value) > LONGEST:
        raise BadSearchError(f"{name} is {quote_value(value)}; it has to be up to {LONGEST} characters")
    return value


def _whole(args: MultiDict[str, str], name: str, most: int) -> int | None:
    value = args.get(name)
    if not value:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= most):
        raise BadSearchError(
            f"{name} is {quote_value(value)}; it has to be a whole number from 1 to {most:,}"
        )
    return int(value)
