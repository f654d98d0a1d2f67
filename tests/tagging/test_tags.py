"""Tests of `tagging.tags`: votes become tags by one rule, and tags become documents byte for byte."""

import io
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.json
import pytest
from forests import NAMES

from conf.errors import TinyTagsError
from indexing.fields import FIELDS
from storage.runs import Run
from tagging.dataset_card import TYPES, dataset_card
from tagging.tags import documents, minimum_votes, renumbering, winners

RUN = Run("tiny", "c0", "forest-10", "f0", 0.4, NAMES, images=100, partitions=13, trees=10)


class NumberedRun(Run):
    """A run whose hash is known beforehand."""

    prefix = "3f9a2c1d"


def votes(*rows):
    """Return (n, 10) votes from a dict of class: votes for each image."""
    array = np.zeros((len(rows), 10), np.uint16)
    for row, given in zip(array, rows, strict=True):
        for name, count in given.items():
            row[NAMES.index(name)] = count
    return array


def lines(data):
    return [json.loads(line) for line in data.decode("ascii").splitlines()]


def test_a_document_is_the_one_described_byte_for_byte():
    run = NumberedRun(**vars(RUN))
    given = votes({"frog": 6, "deer": 2, "cat": 1, "horse": 1})
    data, _ = documents(run, 12, winners(given), np.array([NAMES.index("frog")]), NAMES, first_row=4711)
    assert data == (
        b'{"id":"3f9a2c1d:12:4711","corpus":"tiny","partition":12,"row":4711,"tag":"frog","votes":6,"trees":10,'
        b'"confidence":0.6,"runner_up":"deer","runner_up_votes":2,"label":"frog","model":"forest-10",'
        b'"run":"tiny-forest-10-3f9a2c1d"}\n'
    )


def test_what_an_image_lacks_is_null_and_a_label_is_left_out_where_the_corpus_has_no_classes():
    run = NumberedRun(**vars(RUN))
    data, _ = documents(run, 0, winners(votes({"cat": 10})), np.array([-1]), NAMES, names=[None])
    assert data == (
        b'{"id":"3f9a2c1d:0:0","corpus":"tiny","partition":0,"row":0,"name":null,"tag":"cat","votes":10,"trees":10,'
        b'"confidence":1.0,"runner_up":null,"runner_up_votes":null,"label":null,"model":"forest-10",'
        b'"run":"tiny-forest-10-3f9a2c1d"}\n'
    )
    (plain,) = lines(documents(run, 0, winners(votes({"cat": 10})))[0])
    assert "label" not in plain and "name" not in plain


def test_readers_of_json_lines_find_one_schema_in_all_documents_of_a_run():
    given = votes({"cat": 10}, {"cat": 6, "dog": 4}, {"dog": 10}, {"ship": 7, "frog": 3})
    labels, names = np.array([-1, 3, -1, 2]), [None, "b.png", "c.png", None]
    data, _ = documents(RUN, 0, winners(given), labels, NAMES, names=names)
    assert len({tuple(line) for line in lines(data)}) == 1
    table = pyarrow.json.read_json(io.BytesIO(data))  # by which Hugging Face's `datasets` reads them
    types = {field.name: str(field.type) for field in table.schema}
    whole = dict.fromkeys(("partition", "row", "votes", "trees", "runner_up_votes"), "int64")
    assert types == dict.fromkeys(lines(data)[0], "string") | whole | {"confidence": "double"}
    assert table.column("label").to_pylist() == [None, NAMES[3], None, NAMES[2]]


@pytest.mark.slow
@pytest.mark.parametrize("descriptors", [None, np.array([[1, -2, 3]], np.int8)])
def test_the_folder_of_a_run_is_a_dataset_where_only_a_later_file_has_labels(
    tmp_path, descriptors, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets  # takes two seconds

    run = replace(RUN, descriptor=None if descriptors is None else "a descriptor")
    (tmp_path / "run" / "tags").mkdir(parents=True)
    (tmp_path / "run" / "README.md").write_text(dataset_card(run))
    for partition, (label, name) in enumerate([(-1, None), (3, "a.png")]):
        given = votes({"dog": 10} if label < 0 else {"cat": 6, "dog": 4})
        data, _ = documents(
            run, partition, winners(given), np.array([label]), NAMES, names=[name], descriptors=descriptors
        )
        (tmp_path / "run" / "tags" / f"{partition:05d}.jsonl").write_bytes(data)
    dataset = datasets.load_dataset(str(tmp_path / "run"), cache_dir=str(tmp_path / "cache"))["train"]
    assert dataset["label"][:] == [None, NAMES[3]] and dataset["name"][:] == [None, "a.png"]
    assert dataset["runner_up_votes"][:] == [None, 4] and dataset["confidence"][:] == [1.0, 0.6]
    assert ("descriptor" in dataset.column_names) == (descriptors is not None)


def test_the_types_of_a_dataset_are_those_of_the_fields():
    kinds = {"string": "string", "int": "int64", "float": "float64"}
    fields = [field for field in FIELDS if not field.beside and field.type != "descriptor"]
    assert {field.name: kinds[field.type] for field in fields} == TYPES


def test_a_descriptor_is_all_that_documents_with_descriptors_have_more():
    run = NumberedRun(**vars(RUN))
    given = votes({"cat": 3, "dog": 3}, {"cat": 10}, {"frog": 4})
    descriptors = np.array([[1, 2, 3], [-128, 0, 127], [-1, 9, 10]], np.int8)
    data, counts = documents(run, 0, winners(given), np.array([-1, 1, -1]), NAMES, descriptors=descriptors)
    assert data.splitlines()[0] == (
        b'{"id":"3f9a2c1d:0:1","corpus":"tiny","partition":0,"row":1,"tag":"cat","votes":10,"trees":10,"confidence":1.0,'
        b'"runner_up":null,"runner_up_votes":null,"label":"'
        + NAMES[1].encode()
        + b'","descriptor":[-128,0,127],"model":"forest-10",'
        b'"run":"tiny-forest-10-3f9a2c1d"}'
    )
    assert [(line["row"], line.pop("descriptor")) for line in lines(data)] == [
        (1, [-128, 0, 127]),
        (2, [-1, 9, 10]),
    ]
    plain, counts_then = documents(run, 0, winners(given), np.array([-1, 1, -1]), NAMES)
    assert lines(plain) == [
        {key: value for key, value in line.items() if key != "descriptor"} for line in lines(data)
    ]
    assert counts == counts_then
    assert documents(run, 0, winners(given[:1]), descriptors=descriptors[:1])[0] == b""


def test_ties_go_to_the_lowest_class():
    best = winners(votes({"dog": 4, "cat": 4, "ship": 2}, {"car": 3, "bird": 3, "dog": 4}, {"lorry": 1}, {}))
    assert [NAMES[tag] for tag in best.tag] == ["cat", "dog", "lorry", "aeroplane"]
    assert [NAMES[tag] for tag in best.runner_up[:2]] == ["dog", "car"]
    assert best.votes.tolist() == [4, 4, 1, 0]
    assert best.runner_up_votes.tolist() == [4, 3, 0, 0]


def test_winners_are_those_of_sorting():
    given = np.random.default_rng(2).integers(0, 6, (5_000, 7)).astype(np.uint16)
    best = winners(given)
    order = np.argsort(-given.astype(int), axis=1, kind="stable")
    np.testing.assert_array_equal(best.tag, order[:, 0])
    np.testing.assert_array_equal(best.votes, given.max(axis=1))
    np.testing.assert_array_equal(best.runner_up_votes, np.sort(given, axis=1)[:, -2])
    has_one = best.runner_up_votes > 0
    np.testing.assert_array_equal(best.runner_up[has_one], order[has_one, 1])


def test_winners_leaves_the_votes_as_they_are():
    given = votes({"dog": 4, "cat": 4})
    given.flags.writeable = False
    assert winners(given).votes.tolist() == [4]


def test_a_threshold_that_is_a_number_of_votes_keeps_exactly_that_many():
    for trees in (*range(1, 101), 500):
        assert [minimum_votes(k / trees, trees) for k in range(trees + 1)] == list(range(trees + 1))


@pytest.mark.parametrize(
    ("confidence", "trees", "votes"),
    [(0.07, 100, 7), (0.4, 10, 4), (0.3, 10, 3), (0.7, 10, 7), (0.6, 5, 3), (0.29, 100, 29), (0.57, 100, 57), (0.41, 10, 5), (0.4, 3, 2), (0, 10, 0), (1, 7, 7), (1e-9, 10, 1)],
)  # fmt: skip
def test_a_threshold_between_numbers_of_votes_takes_the_higher(confidence, trees, votes):
    assert minimum_votes(confidence, trees) == votes


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_that_is_no_share_is_refused(confidence):
    with pytest.raises(TinyTagsError, match=r"minimum confidence .* is not within 0\.0 and 1\.0"):
        minimum_votes(confidence, 10)


def test_tags_below_the_threshold_are_dropped_and_counted():
    given = votes({"cat": 3, "dog": 3}, {"cat": 4, "dog": 6}, {"ship": 4, "car": 3}, {"ship": 10})
    data, counts = documents(RUN, 3, winners(given))
    assert [(line["row"], line["tag"], line["votes"]) for line in lines(data)] == [
        (1, "dog", 6),
        (2, "ship", 4),
        (3, "ship", 10),
    ]
    assert (counts["images"], counts["tagged"], counts["dropped"]) == (4, 3, 1)
    assert counts["votes"] == [0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1]
    assert counts["tags"] == {name: {"dog": 1, "ship": 2}.get(name, 0) for name in NAMES}
    assert (counts["labelled"], counts["right"]) == (0, 0)
    assert json.loads(json.dumps(counts)) == counts


def test_a_label_is_right_by_its_name_whatever_its_number():
    given = votes({"cat": 5}, {"cat": 5}, {"dog": 5}, {"dog": 5}, {"dog": 1})
    labels = np.array([1, 0, -1, 2, 0], np.int32)
    data, counts = documents(RUN, 0, winners(given), labels, ["dog", "cat", "newt"])
    assert [line.get("label") for line in lines(data)] == ["cat", "dog", None, "newt"]
    assert (counts["labelled"], counts["right"]) == (3, 1)
    assert renumbering(["dog", "cat", "newt"], NAMES)[labels].tolist() == [3, 5, -1, -2, 5]


def test_a_label_that_the_corpus_does_not_have_is_refused():
    with pytest.raises(TinyTagsError, match="label 7 of an image is not one of the 2 classes of its corpus"):
        documents(RUN, 0, winners(votes({"cat": 5})), np.array([7]), ["dog", "cat"])


def test_names_of_any_kind_are_escaped():
    names = ['quote " and \\ slash', "naïve café 猫 \U0001f438", "line\nbreak\x00", *NAMES[3:]]
    run = replace(RUN, classes=names)
    given = np.zeros((3, 10), np.uint16)
    given[[0, 1, 2], [0, 1, 2]] = 6
    given[[0, 1, 2], [1, 2, 0]] = 4
    data, _ = documents(run, 0, winners(given), np.array([2, 0, 1]), names)
    assert data.isascii() and data.count(b"\n") == 3
    assert [(line["tag"], line["runner_up"], line["label"]) for line in lines(data)] == [
        (names[0], names[1], names[2]),
        (names[1], names[2], names[0]),
        (names[2], names[0], names[1]),
    ]


def test_every_document_is_what_json_dumps_writes():
    random = np.random.default_rng(4)
    run = replace(RUN, trees=37, min_confidence=0.2)
    given = random.multinomial(37, [0.4, 0.2, *[0.05] * 8], 3_000).astype(np.uint16)
    labels = random.integers(-1, 10, 3_000)
    data, counts = documents(run, 7, winners(given), labels, NAMES, first_row=256)
    assert len(lines(data)) == counts["tagged"] > 2_900
    assert data == b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines(data))
    for line in lines(data)[::50]:
        row = line["row"] - 256
        assert line["id"] == f"{run.prefix}:7:{line['row']}"
        assert line["votes"] == given[row].max() and line["confidence"] == line["votes"] / 37
        assert line["runner_up_votes"] == sorted(given[row])[-2]
        assert line.get("label") == (None if labels[row] < 0 else NAMES[labels[row]])


def test_no_images_are_no_documents():
    data, counts = documents(RUN, 0, winners(np.zeros((0, 10), np.uint16)), np.zeros(0, np.int16), NAMES)
    assert data == b"" and (counts["images"], counts["tagged"], counts["dropped"]) == (0, 0, 0)


def test_blocks_of_a_partition_add_up_to_the_whole():
    given = np.random.default_rng(5).multinomial(10, [0.3, *[0.7 / 9] * 9], 1_000).astype(np.uint16)
    whole, counts = documents(RUN, 1, winners(given))
    parts = [documents(RUN, 1, winners(given[a:b]), first_row=a) for a, b in pairwise([0, 256, 512, 1_000])]
    assert b"".join(data for data, _ in parts) == whole
    assert sum(part["tagged"] for _, part in parts) == counts["tagged"]


def test_a_network_gives_a_rounded_confidence_and_no_votes():
    run = replace(RUN, model="network", trees=None, min_confidence=0.4)
    probabilities = np.zeros((4, 10), np.float32)
    probabilities[0, [3, 5]] = 0.87654, 0.12346
    probabilities[1, 2] = 1
    probabilities[2, [7, 8]] = 0.4, 0.40001
    probabilities[3, :] = 0.1
    data, counts = documents(run, 0, winners(probabilities))
    assert [
        {key: line[key] for key in line if key in ("tag", "confidence", "runner_up")} for line in lines(data)
    ] == [
        {"tag": "cat", "confidence": 0.8765, "runner_up": "dog"},
        {"tag": "bird", "confidence": 1.0, "runner_up": None},
        {"tag": "ship", "confidence": 0.4, "runner_up": "horse"},
    ]
    assert b"votes" not in data and b"trees" not in data
    assert counts["dropped"] == 1 and "votes" not in counts
