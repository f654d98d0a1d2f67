"""Tests of annotations in the real Solr: indexed, resumed, verified, repaired, and their state."""

import json

import made_annotations
import pytest

from conf.settings import Settings
from indexing.index_annotations import index_annotations, verify_annotations
from indexing.status import read_status
from ingest.annotations.documents import BEFORE_NUMBER
from ingest.annotations.manifest import open_annotations
from jobs.read_annotations import read_annotations
from operations.status import describe
from storage import layout
from storage.documents import documents_file
from storage.store import open_store


@pytest.fixture
def annotated(tmp_path, client):
    made_annotations.make(tmp_path / "csv", images=120)
    settings = Settings(store=str(tmp_path / "store"), master="processes[1]")
    read_annotations(settings, str(tmp_path / "csv"), "made", 8_000)
    yield open_store(settings.store)


def test_annotations_are_indexed_verified_repaired_and_shown(annotated, client):
    first = index_annotations(annotated, "made", client)
    images, relations = open_annotations(annotated, "made").sets
    assert first["complete"] and first["rejected"] == 0
    assert client.alias("made-images") == [images.name] and client.alias("made-relations") == [relations.name]
    assert first["images"]["posted"] and first["documents"] == sum(client.counts(images.name).values()) + sum(
        client.counts(relations.name).values()
    )
    assert index_annotations(annotated, "made", client)["images"]["posted"] == []
    assert verify_annotations(annotated, "made", client)["ok"]

    path = layout.annotations_counts("made")
    counts = annotated.read_json(path)
    for wrong in (counts | {"rows": {"at": 1}}, counts | {"of_class": []}, {}):
        annotated.write_json(path, wrong)
        verified = verify_annotations(annotated, "made", client)
        assert [problem["kind"] for problem in verified["problems"]] == ["counts"] and not verified["ok"]
    assert verify_annotations(annotated, "made", client, repair=True)["ok"]
    assert annotated.read_json(path) == counts

    line = annotated.read_bytes(documents_file(images, 0)).splitlines()[0]
    document = json.loads(line)
    others = [
        {"id": "extra", "partition": 0},
        {"id": "of another partition", "partition": 999},
        {"id": "of none"},
    ]
    changed = json.dumps([document | {"absent": ["/m/changed"]}, *others])
    client.update(images.name, changed.encode())
    client.commit(images.name)
    related = json.loads(annotated.read_bytes(documents_file(relations, 0)).splitlines()[0])
    more = related | {"id": f"{related['image']}{BEFORE_NUMBER}999999"}
    client.update(relations.name, json.dumps([more]).encode())
    client.commit(relations.name)
    verified = verify_annotations(annotated, "made", client)
    assert not verified["ok"] and {problem["kind"] for problem in verified["problems"]} == {"index"}
    assert verify_annotations(annotated, "made", client, repair=True)["ok"]
    assert verify_annotations(annotated, "made", client)["problems"] == []
    # Of the index after the repair, with the same counts.
    after = annotated.read_json(path)
    assert after.pop("images_index") != counts.pop("images_index")
    assert after.pop("relations_index") != counts.pop("relations_index") and after == counts

    client.update(images.name, b'{"delete": {"query": "*:*"}}')
    client.commit(images.name)
    state = read_status(annotated, client, "tags")["annotations"][0]
    assert state["published"] and state["index"]["images"]["done"] == 0
    assert state["index"]["relations"]["pending"] == 0 and state["documents"]["pending"] == 0
    again = index_annotations(annotated, "made", client)
    assert len(again["images"]["posted"]) == images.partitions and again["relations"]["posted"] == []
    status = read_status(annotated, client, "tags")
    assert "annotations made: rows" in describe(
        {**status, "store": "s", "models": [], "solr": "s", "alias": "tags"}
    )

    annotated.write_bytes(documents_file(images, 1), b"{}\n")
    verified = verify_annotations(annotated, "made", None)
    assert [(problem["kind"], problem["partition"]) for problem in verified["problems"]] == [("documents", 1)]
