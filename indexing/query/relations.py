"""Relations in Solr: searches by a pattern of each part, counts by the kinds that there are."""

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from indexing.query.annotations import ANSWER_SECONDS, BY_ID, RELATION_FIELDS, Params, select, terms
from indexing.solr import Solr

# The parts of a relation, and the fields that have them in lower case.
PARTS = {"class1": "lower1", "relation": "lower_relation", "class2": "lower2"}
# The orders of relations, the first by default.
RELATION_SORTS = {"image": ""} | {part: f"{field} asc," for part, field in PARTS.items()}


class RelationKind(NamedTuple):
    """How many relations there are of two classes and a type."""

    class1: str
    relation: str
    class2: str
    rows: int


def relations_query(patterns: Mapping[str, str], escape: str | None = None, sort: str = "image") -> Params:
    """Return the parameters of a search for relations by a pattern of each part, in one of the orders `RELATION_SORTS`.

    ``%`` in a pattern stands for any number of characters, also none; every other character for itself, in either case. After
    the character ``escape`` every character stands for itself, as in SQL's ``LIKE ... ESCAPE``.
    """
    order = f"{RELATION_SORTS[sort]}{BY_ID}"
    params: Params = {"q": "*:*", "fl": RELATION_FIELDS, "sort": order, "fq": []}
    for part, field in PARTS.items():
        texts = [text.lower() for text in split_pattern(patterns[part], escape)]
        if not any(texts):
            continue
        if len(texts) > 1:
            params["fq"].append(f"{{!lucene tag={part}}}{field}:{'*'.join(map(_literal, texts))}")
        else:
            params["fq"].append(f"{{!term tag={part} f={field} v=${part}}}")
            params[part] = texts[0]
    return params


def relation_kinds(
    solr: Solr, alias: str, classes: Iterable[str], most: int, seconds: float = ANSWER_SECONDS
) -> list[RelationKind] | None:
    """Return the kinds of relations with the number of each, sorted; ``classes`` are all first classes. None for more than ``most``."""
    facet = terms("relation", -1) | {"facet": {"class2": terms("class2", -1)}}
    params = {"q": "{!term f=class1 v=$class}", "rows": 0, "json.facet": json.dumps({"relation": facet})}
    kinds: list[RelationKind] = []
    for one in classes:  # a request each: its answer has at most as many kinds as the class has relations
        facets = select(solr, alias, params | {"class": one}, seconds)["facets"]
        kinds += [
            RelationKind(one, relation["val"], second["val"], second["count"])
            for relation in _buckets(facets, "relation")
            for second in _buckets(relation, "class2")
        ]
        if len(kinds) > most:
            return None
    return sorted(kinds)


def count_kinds(
    kinds: Iterable[RelationKind], matching: Mapping[str, Container[str]]
) -> tuple[int, dict[str, dict[str, int]]]:
    """Return how many relations match in all parts, and their number by value of each part, as facets of `find` count them.

    ``matching`` has the values of each part that match; a facet leaves out its own part.
    """
    total = 0
    in1, in_relation, in2 = (matching[part] for part in PARTS)
    counts1, counts, counts2 = Counter[str](), Counter[str](), Counter[str]()
    for class1, relation, class2, rows in kinds:
        one, type_, two = class1 in in1, relation in in_relation, class2 in in2
        if one and type_ and two:
            total += rows
        if type_ and two:
            counts1[class1] += rows
        if one and two:
            counts[relation] += rows
        if one and type_:
            counts2[class2] += rows
    return total, dict(zip(PARTS, (counts1, counts, counts2), strict=True))


def matches(name: str, texts: Sequence[str]) -> bool:
    """Return whether a name matches the pattern that `split_pattern` returned these texts of, as in `relations_query`."""
    first, *others = [one.lower() for one in texts]
    left = name.lower()
    if not others or not left.startswith(first):
        return left == first
    left = left.removeprefix(first)
    for text in filter(None, others[:-1]):
        _, matched, left = left.partition(text)
        if not matched:
            return False
    return left.endswith(others[-1])


def split_pattern(pattern: str, escape: str | None = None) -> list[str]:
    """Return the texts of a pattern that any characters may stand between: ``a%b`` has a and b, ``a`` only itself.

    An ``escape`` at the end stands for itself.
    """
    if escape is None:
        return pattern.split("%")
    texts, at = [""], 0
    while at < len(pattern):
        if pattern[at] == escape and at + 1 < len(pattern):
            at += 1
            texts[-1] += pattern[at]
        elif pattern[at] == "%":
            texts.append("")
        else:
            texts[-1] += pattern[at]
        at += 1
    return texts


def _literal(text: str) -> str:
    """Return a text as Solr's query parser reads it: all but letters and digits is escaped."""
    return "".join(one if one.isalnum() else f"\\{one}" for one in text)


def _buckets(facets: Any, name: str) -> list[Any]:
    return cast(list[Any], facets[name]["buckets"]) if name in facets else []
