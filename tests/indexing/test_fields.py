"""Tests of `indexing.fields`: Solr's schema and the documents that tagging writes are what the table says."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from indexing.annotation_fields import ANNOTATION_FIELDS
from indexing.fields import DESCRIPTOR_NUMBERS, FACETS, FIELDS, HIT_NAMES, SOLR_FIELDS
from indexing.solr import CONFIGSET, CONFIGSETS
from storage.runs import Run
from tagging import descriptor
from tagging.tags import documents, winners


def test_the_schema_of_solr_is_the_table():
    schema = ElementTree.parse(CONFIGSET / "schema.xml").getroot()
    declared = {
        element.get("name"): (element.get("type"), element.get("indexed") == "true")
        for element in schema.iter("field")
    }
    assert declared.pop("_version_") == ("long", False)
    assert declared == {field.name: (field.type, field.indexed) for field in SOLR_FIELDS}
    types = {element.get("name"): element for element in schema.iter("fieldType")}
    assert int(types["descriptor"].get("vectorDimension")) == DESCRIPTOR_NUMBERS == descriptor.NUMBERS
    for field in SOLR_FIELDS:
        if field.name in HIT_NAMES.split(","):
            assert types[field.type].get("docValues") == "true", f"{field.name} could not be in hits"


def test_facets_are_fields_that_can_be_searched_by():
    assert all(field.indexed and field.in_hits and field.type == "string" for field in FIELDS if field.facet)
    assert len({facet.plural for facet in FACETS.values()}) == len(FACETS)


@pytest.mark.parametrize("trees", [10, None])
def test_documents_have_the_fields_of_the_table_in_its_order(trees):
    classes = ["cat", "frog"]
    run = Run("tiny", "c" * 64, "model", "m" * 64, 0.0, classes, 2, 1, trees=trees, descriptor="d")
    votes = np.array([[7, 3], [0, 10]], np.uint16) if trees else np.array([[0.7, 0.3], [0, 1]], np.float32)
    lines, _ = documents(
        run,
        0,
        winners(votes),
        np.array([1, -1]),
        classes,
        descriptors=np.zeros((2, DESCRIPTOR_NUMBERS), np.int8),
        names=['a "frog".png', None],
    )
    full, least = map(json.loads, lines.splitlines())
    kinds = ("all", "forests", "some") if trees else ("all", "some")
    assert list(full) == [field.name for field in SOLR_FIELDS if field.presence in kinds]
    always = [f.name for f in FIELDS if f.presence == "all" or (trees and f.name in ("votes", "trees"))]
    assert list(least) == list(full), "the same in every document of a run"
    assert [name for name, value in least.items() if value is not None] == [
        name for name in full if name in (*always, "descriptor")
    ]
    for field in SOLR_FIELDS:
        for document in (full, least):
            if document.get(field.name) is not None:
                assert isinstance(document[field.name], (field.python_type, int))


def test_the_schema_of_annotations_has_their_fields():
    schema = ElementTree.parse(CONFIGSETS / "annotations" / "schema.xml").getroot()
    defined = {(field.get("name"), field.get("type"), field.get("indexed")) for field in schema.iter("field")}
    ours = {(field.name, field.type, str(field.indexed).lower()) for field in ANNOTATION_FIELDS}
    assert defined == ours | {("_version_", "long", "false")}
