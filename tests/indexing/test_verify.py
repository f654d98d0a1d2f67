"""Tests of `indexing.verify` on a real Solr: everything that can be wrong with a run is found, and repaired where it can be."""

import json
from pathlib import Path

import pytest
from small_runs import ALIAS, documents, indexed, make_corpus, make_run, write_tags

from conf.errors import LeaseHeldError, TinyTagsError
from indexing import solr as solr_client
from indexing import verify as verify_module
from indexing.index import index_run
from indexing.verify import verify_run
from ingest.corpus import done_partitions
from storage import layout
from storage.lease import lease
from storage.store import FileUnavailableError

pytestmark = pytest.mark.services


@pytest.fixture
def run(store, client):
    """A run of a corpus, in the index."""
    run = make_run(store, corpus_hash=make_corpus(store).hash)
    index_run(store, run.name, client, ALIAS)
    return run


def change(client, run, *commands):
    """Post documents or a command to a run's collection, and let it be seen."""
    for command in commands:
        client.update(run.name, json.dumps(command).encode())
    client.commit(run.name)


def problems(result):
    return [(problem["kind"], problem["partition"]) for problem in result["problems"]]


def of_partition(store, run, p):
    return [d for d in documents(store, run).values() if d["partition"] == p]


def test_a_run_without_fault_is_reported_with_its_sums(store, client, run):
    total = len(documents(store, run))
    # What a killed indexer of an earlier version left behind must not be committed by who only reads.
    client.update(run.name, b'{"delete": {"query": "*:*"}}')
    result = verify_run(store, run.name, client)
    assert result == {
        "run": run.name, "partitions": 3, "images": 1500, "tagged": total, "dropped": 1500 - total, "bad": 0,
        "rejected": 0, "documents": total, "problems": [], "ok": True, "needs_ingest": [], "needs_tagging": [],
    }  # fmt: skip
    json.dumps(result)
    assert len(indexed(client, run)) == total


def test_without_solr_the_files_alone_are_compared(store):
    run = make_run(store, corpus_hash=make_corpus(store).hash)
    result = verify_run(store, run.name, None)
    assert (result["ok"], result["documents"]) == (True, 0)


def test_many_pages_of_a_partition_on_two_shards_are_compared(store, client, monkeypatch):
    monkeypatch.setattr(solr_client, "PAGE_DOCUMENTS", 50)
    run = make_run(store, corpus_hash=make_corpus(store).hash)
    index_run(store, run.name, client, ALIAS, shards=2)
    assert verify_run(store, run.name, client)["ok"]
    gone = of_partition(store, run, 2)[321]["id"]
    change(client, run, {"delete": {"id": gone}})
    assert gone in verify_run(store, run.name, client)["problems"][0]["what"]


def test_a_confidence_that_32_bits_cannot_hold_is_no_difference(store, client):
    def spoil(partition, lines):
        for document in lines:
            document["confidence"] = document["votes"] / 30

    run = make_run(store, corpus_hash=make_corpus(store).hash, spoil=spoil)
    index_run(store, run.name, client, ALIAS)
    assert verify_run(store, run.name, client)["ok"]
    change(client, run, [of_partition(store, run, 0)[0] | {"confidence": 0.123}])
    assert problems(verify_run(store, run.name, client)) == [("index", 0)]


def test_images_that_cannot_be_read_now_are_not_taken_for_broken(store, client, monkeypatch):
    corpus = make_corpus(store)
    run = make_run(store, corpus_hash=corpus.hash)
    index_run(store, run.name, client, ALIAS)
    real = verify_module.measure_partition

    def check(store, corpus, partition):
        if partition == 1:
            raise FileUnavailableError("no DataNode that is up has all of it")
        return real(store, corpus, partition)

    monkeypatch.setattr(verify_module, "measure_partition", check)
    result = verify_run(store, run.name, client, repair=True)
    assert problems(result) == [("unreadable", 1)]
    assert result["needs_ingest"] == []
    assert done_partitions(store, corpus) == list(range(corpus.partitions))


STRANGER = {"id": "ffffffff:1:3", "corpus": "tiny", "row": 3, "tag": "frog", "run": "other"}


@pytest.mark.parametrize(
    ("damage", "partition", "what"),
    [
        (lambda d: [{"delete": {"id": d["id"]}}], 1, "1 document missing from the index: {id}"),
        (lambda d: [[STRANGER | {"partition": 1}]], 1, "1 document extra in the index: ffffffff:1:3"),
        (lambda d: [[d | {"tag": "changed"}]], 1, "1 document changed in the index: {id}"),
        (
            lambda d: [[STRANGER | {"partition": 17}]],
            17,
            "1 document of partition 17, which the run does not have",
        ),
        (lambda d: [[STRANGER]], None, "1 document without a partition"),
    ],
    ids=["missing", "extra", "changed", "foreign", "without-partition"],
)
def test_a_difference_in_the_index_is_found_named_and_repaired(store, client, run, damage, partition, what):
    document = of_partition(store, run, 1)[7]
    change(client, run, *damage(document))
    held = indexed(client, run)
    result = verify_run(store, run.name, client)
    assert result["ok"] is False
    assert result["problems"] == [
        {"kind": "index", "partition": partition, "what": what.format(**document), "mended": False}
    ]
    assert indexed(client, run) == held, "without repair nothing is written"

    result = verify_run(store, run.name, client, repair=True)
    assert result["ok"] is True
    assert [problem["mended"] for problem in result["problems"]] == [True]
    assert result["documents"] == len(documents(store, run))
    assert indexed(client, run) == documents(store, run)
    assert verify_run(store, run.name, client)["problems"] == []
    assert client.alias(ALIAS) == [run.name]


def test_a_missing_and_an_extra_document_that_balance_are_both_found_and_repaired(store, client, run):
    gone = of_partition(store, run, 1)[0]
    change(client, run, {"delete": {"id": gone["id"]}}, [gone | {"id": "ffffffff:1:0"}])
    result = verify_run(store, run.name, client)
    assert problems(result) == [("index", 1), ("index", 1)]
    assert [p["what"].split(":")[0] for p in result["problems"]] == [
        "1 document missing from the index",
        "1 document extra in the index",
    ]
    assert verify_run(store, run.name, client, repair=True)["ok"]
    assert indexed(client, run) == documents(store, run)


def test_a_run_that_is_not_in_solr_is_reported_and_repair_indexes_it_unpublished(store, client):
    run = make_run(store, corpus_hash=make_corpus(store).hash)
    result = verify_run(store, run.name, client)
    assert problems(result) == [("collection", None)]
    assert f"`tinytags index {run.name}`" in result["problems"][0]["what"]
    assert not client.exists(run.name)
    assert verify_run(store, run.name, client, repair=True)["ok"]
    assert indexed(client, run) == documents(store, run)
    assert client.alias(ALIAS) == []


def flip(path, change=b"\x01", at=None):
    data = bytearray(path.read_bytes())
    at = len(data) // 2 if at is None else at
    data[at] ^= change[0]
    path.write_bytes(data)


def test_a_flipped_byte_in_a_page_of_a_partition_is_found_and_the_partition_marked_for_ingest(
    store, client, run
):
    flip(Path(store.url(layout.corpus_images("tiny", 2))))
    result = verify_run(store, run.name, client)
    assert problems(result) == [("images", 2)]
    assert "partition=00002/images.parquet: is corrupt" in result["problems"][0]["what"]
    assert (result["needs_ingest"], result["needs_tagging"]) == ([2], [])
    assert store.exists(layout.corpus_statistics("tiny", 2))

    result = verify_run(store, run.name, client, repair=True)
    assert (result["ok"], result["needs_ingest"]) == (False, [2])
    assert not store.exists(layout.corpus_statistics("tiny", 2)), "now `tinytags ingest` makes it again"
    assert problems(verify_run(store, run.name, client)) == [("images", 2)]
    make_corpus(store)
    assert verify_run(store, run.name, client)["ok"]


@pytest.mark.parametrize("damage", ["changed", "missing", "cut"])
def test_a_changed_tags_file_is_found_and_the_partition_marked_for_tagging(store, client, run, damage):
    path = Path(store.url(layout.run_tags(run.name, 1)))
    lines = documents(store, run)
    if damage == "changed":
        path.write_bytes(path.read_bytes().replace(b'"votes":7', b'"votes":8', 1))
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    result = verify_run(store, run.name, client)
    assert problems(result) == [("tags", 1)]
    assert "00001.jsonl" in result["problems"][0]["what"]
    assert result["needs_tagging"] == [1]
    assert store.exists(layout.run_statistics(run.name, 1))

    result = verify_run(store, run.name, client, repair=True)
    assert (result["ok"], result["needs_tagging"]) == (False, [1])
    assert not store.exists(layout.run_statistics(run.name, 1)), "now `tinytags tag` makes it again"
    assert indexed(client, run) == lines, "the index stays as it is"
    write_tags(store, run, 1, 500)
    assert verify_run(store, run.name, client)["ok"]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("dropped", 3, "500 images are not"),
        ("images", 499, "499 images were tagged of 500 in the corpus"),
        ("partition", 7, "is not the statistics of partition 0"),
    ],
)
def test_statistics_that_do_not_add_up_are_found(store, client, run, key, value, what):
    path = layout.run_statistics(run.name, 0)
    store.write_json(path, store.read_json(path) | {key: value})
    result = verify_run(store, run.name, client)
    assert {kind for kind, _ in problems(result)} == {"statistics"}
    assert any(what in problem["what"] for problem in result["problems"])
    assert result["needs_tagging"] == [0]
    verify_run(store, run.name, client, repair=True)
    assert not store.exists(path)
    assert indexed(client, run) == documents(store, run)


@pytest.mark.parametrize("damage", ["flipped", "counted wrongly", "of another partition"])
def test_damaged_statistics_of_the_corpus_are_found_and_restored(store, damage):
    corpus = make_corpus(store)
    run = make_run(store, corpus_hash=corpus.hash)
    path = layout.corpus_statistics(corpus.name, 1)
    written = store.read_json(path)
    if damage == "flipped":
        store.write_bytes(path, store.read_bytes(path).replace(b"labelled", b"labelleD"))
    elif damage == "counted wrongly":
        store.write_json(path, written | {"labelled": 3})
    else:
        store.write_bytes(path, store.read_bytes(layout.corpus_statistics(corpus.name, 0)))
    result = verify_run(store, run.name, None)
    assert problems(result) == [("corpus-statistics", 1)]
    assert path in result["problems"][0]["what"] and result["needs_ingest"] == []
    assert verify_run(store, run.name, None, repair=True)["ok"]
    assert store.read_json(path) == written | {"seconds": None}
    assert verify_run(store, run.name, None)["problems"] == []


def test_repair_adds_checksums_to_the_files_of_version_0_1(store):
    corpus = make_corpus(store)
    run = make_run(store, corpus_hash=corpus.hash)
    paths = [layout.run_statistics(run.name, 0), layout.corpus_statistics(corpus.name, 2)]
    paths += [layout.run_manifest(run.name), layout.corpus_manifest(corpus.name)]
    before = [store.read_bytes(path) for path in paths]
    for path in paths:
        store.write_bytes(path, json.dumps(store.read_json(path)).encode())
    assert verify_run(store, run.name, None, repair=True)["problems"] == []
    assert [store.read_bytes(path) for path in paths] == before


def test_partitions_that_are_not_tagged_are_named_with_the_reason_where_there_is_one(store, client, run):
    for p in (0, 2):
        store.remove(layout.run_statistics(run.name, p))
    store.write_json(layout.run_failed(run.name, 2), {"partition": 2, "error": "page 3 is corrupt"})
    result = verify_run(store, run.name, client, repair=True)
    assert problems(result) == [("untagged", 0), ("untagged", 2)]
    assert "partition 0 is not tagged yet" in result["problems"][0]["what"]
    assert "partition 2 could not be tagged: page 3 is corrupt" in result["problems"][1]["what"]
    assert (result["ok"], result["needs_tagging"]) == (False, [0, 2])


def test_a_corpus_that_is_missing_or_another_one_is_reported(store, client, run):
    make_corpus(store, "other")
    path = layout.corpus_manifest("tiny")
    other = store.read_json(layout.corpus_manifest("other"))
    manifest = store.read_json(path)
    store.remove(path)
    result = verify_run(store, run.name, client)
    assert (problems(result), "no corpus 'tiny'" in result["problems"][0]["what"]) == (
        [("corpus", None)],
        True,
    )
    store.remove_tree(layout.corpus_folder("tiny"))
    make_corpus(store, "tiny", images=400)
    result = verify_run(store, run.name, client)
    assert problems(result) == [("corpus", None)]
    assert manifest["hash"][:8] in result["problems"][0]["what"]
    assert other["hash"] == manifest["hash"]


def test_rejected_documents_are_counted_and_not_missed(store, client):
    def spoil(partition, lines):
        if partition == 1:
            lines[7]["votes"] = "x"

    run = make_run(store, corpus_hash=make_corpus(store).hash, spoil=spoil)
    index_run(store, run.name, client, ALIAS)
    result = verify_run(store, run.name, client)
    assert (result["ok"], result["rejected"], result["documents"]) == (True, 1, result["tagged"] - 1)

    path = layout.run_rejected(run.name, 1)
    stranger = json.dumps({"reason": "?", "document": {"id": "ffffffff:1:1"}}).encode() + b"\n"
    store.write_bytes(path, stranger)
    result = verify_run(store, run.name, client)
    assert [p["what"] for p in result["problems"] if p["kind"] == "rejected"] == [
        f"{store.url(path)}: document 'ffffffff:1:1' is not of this run"
    ]
    result = verify_run(store, run.name, client, repair=True)
    assert (result["ok"], result["rejected"]) == (True, 1)
    assert verify_run(store, run.name, client)["problems"] == []

    data = bytearray(store.read_bytes(path))
    data[20] ^= 1
    store.write_bytes(path, bytes(data))
    assert ("rejected", 1) in problems(verify_run(store, run.name, client))
    assert index_run(store, run.name, client, ALIAS)["posted"] == [1], "its documents are counted again"
    assert verify_run(store, run.name, client)["problems"] == []


def test_a_run_that_is_being_indexed_is_not_judged(store, client, run):
    with (
        lease(store, layout.run_index_lease(run.name), "the index"),
        pytest.raises(LeaseHeldError, match="verify it afterwards"),
    ):
        verify_run(store, run.name, client)


def test_a_run_that_there_is_not_is_named(store, client):
    with pytest.raises(TinyTagsError, match="no run 'nothing'"):
        verify_run(store, "nothing", client)
