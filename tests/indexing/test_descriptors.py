"""Tests of runs with descriptors on a real Solr: they are indexed, found by nearness, and verified without being given back."""

import json
from itertools import pairwise

import numpy as np
import pytest
from small_runs import ALIAS, documents, indexed, make_corpus, make_run

from indexing import nearness, solr
from indexing.fields import FIELDS
from indexing.index import index_run
from indexing.verify import verify_run

pytestmark = pytest.mark.services

NUMBERS = 60


def described(partition, lines):
    """Give each document a descriptor as descriptors are: kinds of images, more or less alike."""
    random = np.random.default_rng(partition)
    kinds = np.random.default_rng(0).normal(0, 40, (20, NUMBERS))
    numbers = kinds[random.integers(0, 20, len(lines))] + random.normal(0, 15, (len(lines), NUMBERS))
    for document, row in zip(lines, numbers.round().clip(-128, 127).astype(int).tolist(), strict=True):
        document["descriptor"] = row


def make_described_run(store, spoil=described, **options):
    return make_run(
        store, corpus_hash=make_corpus(store).hash, descriptor="colours-edges-1", spoil=spoil, **options
    )


@pytest.fixture
def run(store, client):
    """A run with descriptors, in the index on two shards."""
    run = make_described_run(store)
    index_run(store, run.name, client, ALIAS, shards=2)
    return run


def nearest(client, run, numbers, count):
    parameters = {
        "q": f"{{!knn f=descriptor topK=50}}{numbers}",
        "fl": "id,score",
        "sort": "score desc",
        "rows": count,
    }
    return client.select(run.name, parameters)["response"]["docs"]


def post(client, run, *commands):
    for command in commands:
        client.update(run.name, json.dumps(command).encode())
    client.commit(run.name)


def test_a_run_with_descriptors_ends_in_the_index_and_is_verified_on_every_shard(
    store, client, run, monkeypatch
):
    there = indexed(client, run)
    posted = documents(store, run)
    assert all("descriptor" not in hit for hit in there.values()), "it would be kept twice"
    assert there == {
        key: {name: value for name, value in document.items() if name != "descriptor"}
        for key, document in posted.items()
    }
    for rows in (50, 20_000):
        monkeypatch.setattr(solr, "PAGE_DOCUMENTS", rows)
        result = verify_run(store, run.name, client)
        assert (result["problems"], result["documents"]) == ([], len(posted))


def test_the_nearest_are_those_of_comparing_with_all(store, client, run):
    posted = list(documents(store, run).values())
    numbers = np.array([document["descriptor"] for document in posted])
    recall = 0
    for place in range(0, len(posted), 25):
        squared = ((numbers - numbers[place]) ** 2).sum(axis=1)
        hits = nearest(client, run, numbers[place].tolist(), 12)
        assert hits[0]["id"] == posted[place]["id"] and hits[0]["score"] == 1
        assert all(before["score"] >= after["score"] for before, after in pairwise(hits))
        by_id = {document["id"]: distance for document, distance in zip(posted, squared, strict=True)}
        assert [hit["score"] for hit in hits] == pytest.approx(
            [1 / (1 + by_id[hit["id"]]) for hit in hits], rel=1e-6
        )
        recall += sum(by_id[hit["id"]] <= np.sort(squared)[11] for hit in hits) / 12
    assert recall / len(range(0, len(posted), 25)) > 0.97


def test_a_descriptor_that_changed_is_found_and_repaired(store, client, run):
    document = next(d for d in documents(store, run).values() if d["partition"] == 1)
    for change in ({}, {"descriptor": [document["descriptor"][0] ^ 1, *document["descriptor"][1:]]}):
        damaged = document | change if change else {k: v for k, v in document.items() if k != "descriptor"}
        post(client, run, [damaged])
        result = verify_run(store, run.name, client)
        assert [problem["kind"] for problem in result["problems"]] == ["index"]
        assert result["problems"][0]["what"] == f"1 document changed in the index: {document['id']}"
        assert verify_run(store, run.name, client, repair=True)["ok"]
        assert verify_run(store, run.name, client)["problems"] == []
        assert nearest(client, run, document["descriptor"], 1)[0] == {"id": document["id"], "score": 1}


def test_a_run_without_descriptors_is_in_the_same_fields_and_takes_no_room_for_them(store, client):
    run = make_run(store, corpus_hash=make_corpus(store).hash)
    index_run(store, run.name, client, ALIAS)
    assert indexed(client, run) == documents(store, run)
    assert verify_run(store, run.name, client)["ok"]
    assert nearest(client, run, [0] * NUMBERS, 12) == []
    fields = client.read(f"{run.name}/admin/luke", {"numTerms": 0})["fields"]
    assert "descriptor" not in fields and "descriptor" in [field.name for field in FIELDS]


def test_nearness_distinguishes_descriptors():
    random = np.random.default_rng(1)
    numbers = random.integers(-128, 128, (2_000, NUMBERS))
    changed = numbers.copy()
    changed[np.arange(2_000), random.integers(0, NUMBERS, 2_000)] += 1
    samples = (
        [{"descriptor": row} for row in numbers.tolist()],
        [{"descriptor": row} for row in changed.tolist()],
    )
    for rows in samples:
        nearness.replace_descriptors(rows)
    same = sum(before == after for before, after in zip(*samples, strict=True))
    assert same <= 20
    documents = [None, {"id": "1"}, {"id": "2", "descriptor": [1, 2]}]
    nearness.replace_descriptors(documents)
    assert documents == [None, {"id": "1"}, {"id": "2", "descriptor": [1, 2]}]
