"""Tests of the bench: its statistics, its tables and files, and its checks that two ways have the same results."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import click
import numpy as np
import pyarrow
import pytest

from bench import __main__ as command
from bench import full, made, plots, report
from bench.harness import (
    Comparison,
    Latencies,
    UnequalError,
    Way,
    compare,
    percentile,
    reaches,
    single,
)
from bench.place import Place
from bench.rows import full as full_rows
from bench.rows import growth, kernel, network, whole
from bench.rows.ingest import copy
from bench.rows.search import ALIAS
from bench.rows.tag import same_documents
from bench.sizes import QUICK
from conf.errors import TinyTagsError
from ingest.partition import read_partition
from storage.runs import read_statistics
from tagging.network import Network

pytestmark = pytest.mark.slow

TINY = dataclasses.replace(
    QUICK, name="tiny", rounds=1, train=400, images=1_000, partition=250, read=2_000, predict=300, mllib=50, zipped=10,
    curve=300, curve_trees=(10, 20), curve_depths=(3,), curve_grown=5, tag=1_000, ingest=500, binary=200, hdfs=500,
    index_documents=1_000, search_documents=2_000, searches=5, pages=5, thumbnail_partition=300, similar=500,
    similar_searches=20, growth=(100, 500), growth_partitions=(100,), whole=500, fitted=300, users=6, users_images=300, users_seconds=3,
)  # fmt: skip
SIDE = {"work": 100, "rate": 1e5, "seconds": 20.0}


def ways(ours, theirs, **options) -> Comparison:
    """A comparison whose two ways take the given seconds, one run after the other, and return "same"."""
    times = {"ours": iter(ours), "theirs": iter(theirs)}
    both = [Way(lambda name=name: Latencies([next(times[name])], "same"), 10) for name in times]
    return Comparison(
        "tag/map-in-arrow", *both, rounds=len(ours) - 1, about={"partitions": 2, "partition": 100}, **options
    )


# Rounds


def test_a_ratio_is_computed_for_each_round_and_its_median_is_the_figure():
    (row,) = compare(ways([9, 1, 2, 4], [9, 4, 4, 4]))
    assert row["values"] == [4, 2, 1], "the warm-up does not count"
    assert (row["value"], row["least"], row["most"]) == (2, 1, 4)
    assert (row["target"], row["reached"], row["failed"]) == (5, False, False)
    assert row["ours"]["rate"] == 5
    assert row["theirs"]["seconds"] == 4
    assert row["note"] == "2 partitions of 100"


def test_ways_take_turns():
    order = []
    both = [Way(lambda name=name: order.append(name), before=lambda: None) for name in "ab"]
    compare(Comparison("hdfs/tag", *both, rounds=3, warm_ups=2, about={"read": 1, "written": 1}))
    assert order == ["a", "b"] * 5


def test_preparation_is_not_timed_and_a_short_way_is_repeated_within_its_round():
    runs = []
    slow = Way(lambda: None, before=lambda: __import__("time").sleep(0.05))
    quick = Way(lambda: runs.append(1))
    (row,) = compare(Comparison("similar/tag", slow, quick, rounds=1))
    assert row["ours"]["seconds"] < 0.04
    assert len(runs) > 100


def test_different_results_are_an_error():
    different = Comparison("similar/tag", Way(lambda: 1), Way(lambda: 2))
    with pytest.raises(UnequalError):
        compare(different)
    results = iter([1, 1, 1, 2])
    changing = dataclasses.replace(
        different, theirs=Way(lambda: next(results), before=lambda: None), rounds=3
    )
    with pytest.raises(UnequalError):
        compare(changing)


def test_percentiles_are_among_the_values():
    values = [0.5, 0.1, 0.3, 0.2, 0.4]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 1)) == (0.3, 0.5, 0.1)
    assert percentile([7], 99) == 7


@pytest.mark.parametrize(
    ("value", "target", "at_most", "reached", "generous"),
    [(2, 2, False, 1, 1), (1, 2, False, 0, 1), (0.9, 2, False, 0, 0), (5, 5, True, 1, 1), (9, 5, True, 0, 1),
     (11, 5, True, 0, 0), (-3, 5, True, 1, 1), (0, None, False, 1, 1)],
)  # fmt: skip
def test_a_figure_a_little_short_of_its_target_is_no_failure(value, target, at_most, reached, generous):
    assert reaches(value, target, at_most) == bool(reached)
    assert reaches(value, target, at_most, 0.5) == bool(generous)


def test_every_row_of_the_table_is_measured_by_a_group():
    folder = Path(command.__file__).parent
    table = tomllib.loads((folder / "rows.toml").read_text())
    source = "".join(path.read_text() for path in (folder / "rows").glob("*.py"))
    for group, entry in ((group, entry) for group, entry in table.items() if isinstance(entry, dict)):
        for name in (name for name, row in entry.items() if isinstance(row, dict)):
            # Some names have a part that the code fills in.
            assert f"{group}/{name}" in source or re.search(rf'"{group}/[^"]*{{', source), f"{group}/{name}"


# Tables and files


@pytest.fixture(scope="module")
def results():
    """Results of both benches, of made-up figures."""
    rows = compare(ways([1, 1, 2], [8, 8, 8]))
    for trees in (10, 50):
        about = {"trees": trees, "depth": 10, "nodes": 1234, "grown": 10}
        rows += compare(dataclasses.replace(ways([1, 1 + trees], [1, 1]), name="kernel/curve", about=about))
    rows.append(single("kernel/read", 0.6, megabytes=1) | {"ours": SIDE, "theirs": SIDE})
    rows.append(single("whole/part", 3.5, images=1000, step="ingest", part="start"))
    machine = {"cores": 2, "memory_gib": 24, "load": 0.1, "versions": {"python": "3.11"}}
    return {"machine": machine, "seconds": 60.0, "real_images": True, "problems": [], "rows": rows}


def test_a_line_has_figure_spread_target_and_rates(results):
    line = report.line(results["rows"][0])
    assert line.split()[:7] == ["tag/map-in-arrow", "6.00x", "(4.00-8.00)", "at", "least", "5x:", "reached"]
    assert line.endswith("7.50 images/s against 1.25 images/s")


def test_the_section_has_a_line_a_row_and_notes(results):
    section = report.section(results, ("ratios",))
    words = (
        "| tag job, all cores, Parquet to JSON lines | Parquet, mapInArrow with the same kernel, write.json |"
    )
    assert f"{words} 7.50 images/s | 1.25 images/s | 6.00x (4.00-8.00) | at least 5x: reached |" in section
    assert section.count("\n| ") == 1 + len(results["rows"])
    assert "write.json*: 2 partitions of 100." in section
    assert "![Ratios](plots/ratios.svg)" in section


def test_a_section_replaces_only_the_text_between_its_markers(tmp_path):
    path = tmp_path / "page.md"
    for text in ("old", "new", "newer"):
        expected = f"before\n\n<!-- bench: begin, written by the bench -->\n\n{text}\n\n<!-- bench: end -->\n\nafter\n"
        if text == "old":
            path.write_text(expected)
        report.write_section(path, "bench", text)
        assert path.read_text() == expected
    with pytest.raises(TinyTagsError, match="has no one section"):
        report.write_section(path, "other", "x")


def test_documents_have_the_sections_that_are_written(results, tmp_path):
    for document, name in ((command.DOCUMENT, "bench"), (full.DOCUMENT, "bench-full")):
        copy = tmp_path / document.name
        copy.write_text(document.read_text())
        report.write_section(copy, name, report.section(results))
        assert "7.50 images/s" in copy.read_text()


def test_plots_are_small(results, tmp_path):
    drawn = plots.draw(results, tmp_path)
    assert [path.stem for path in drawn] == list(plots.NAMES)
    assert all(1000 < path.stat().st_size < 60_000 for path in drawn)
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in drawn)


def test_evenness_is_the_rate_in_each_part():
    assert full_rows.rates([(100, 0), (110, 50), (120, 100)], 100, 2) == [5, 5]
    assert full_rows.rates([(0, 0), (10, 80), (30, 100)], 100, 2) == pytest.approx([8, 50 / 23.75])
    # A pause belongs to the part before it, and none is left out.
    assert full_rows.rates([(0, 0), (5, 50), (15, 50), (20, 100)], 100, 2) == pytest.approx([50 / 15, 10])
    assert full_rows.rates([(0, 0), (4, 0), (5, 50), (6, 100), (10, 100)], 100, 2) == pytest.approx([10, 10])
    row = full_rows.even("index", [100.0, 80.0])
    assert (row["value"], row["target"], row["note"]) == (0.8, 0.7, "rates of the tenths: 100, 80.0")


# What is measured


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TINYTAGS_SHARED_DATA", raising=False)  # digits are quick to load
        with Place(TINY, tmp_path_factory.mktemp("bench")) as place:
            yield place


def test_a_dump_and_its_corpus_hold_the_same_varied_images(place):
    images = np.concatenate([block.images for block in read_partition(place.store, place.corpus, 0)])
    assert np.array_equal(images, place.images(TINY.partition))
    assert len(np.unique(place.images(300), axis=0)) > 280
    longer = place.images(1_200)[:300]
    assert np.array_equal(place.images(300), longer), "a longer dump begins like a shorter one"
    assert place.dump.stat().st_size == 3072 * max(TINY.images, 30 * TINY.thumbnail_partition)


def test_moved_trees_are_other_trees_of_the_same_kind(place):
    grown = made.plain_trees(place.grown(TINY.curve_grown, 6))
    assert max(made.packed(grown).depths) == 6
    trees = made.more_trees(grown, 3 * len(grown))
    images = place.images(50)
    votes = made.packed(trees).votes(images)
    assert (votes.sum(axis=1) == len(trees)).all()
    parts = [made.packed(trees[i : i + len(grown)]).votes(images) for i in range(0, len(trees), len(grown))]
    assert np.array_equal(votes, sum(parts))
    assert not np.array_equal(parts[0], parts[1])


def test_the_kernel_votes_as_scikit_learn_and_onnxruntime_do(place):
    images = place.images(TINY.predict)
    ours = Way(lambda: place.forest.votes(images), len(images))
    for against in (kernel.against_scikit_learn, kernel.against_onnx):
        assert len(compare(against(ours, place.scikit_forest, images), 1)) == 1
    other = Way(lambda: np.roll(place.forest.votes(images), 1, axis=0), len(images))
    with pytest.raises(UnequalError):
        compare(kernel.against_scikit_learn(other, place.scikit_forest, images), 1)


def test_a_drawn_run_has_statistics_and_documents_that_agree(place):
    run, count = made.drawn_run(place, "drawn", 700)
    statistics = [read_statistics(place.store, run, p) for p in range(run.partitions)]
    assert sum(s["images"] for s in statistics) == run.images
    assert made.total(place.store, run, "tagged") == count == pytest.approx(700, abs=70)
    lines = [
        place.store.read_bytes(f"runs/{run.name}/tags/{p:05d}.jsonl").splitlines()
        for p in range(run.partitions)
    ]
    assert [len(part) for part in lines] == [s["tagged"] for s in statistics]
    kept = {(votes.max(), np.sort(votes)[-2]) for votes in place.votes if votes.max() >= 4}
    for document in map(json.loads, lines[0]):
        assert (document["votes"], document.get("runner_up_votes") or 0) in kept


def test_documents_are_compared_in_any_order():
    rows = [{"id": "a", "votes": 4}, {"id": "b", "votes": 5}]
    ours = [json.dumps(row).encode() + b"\n" for row in rows]
    assert same_documents(ours, pyarrow.Table.from_pylist(rows[::-1]))
    for theirs in (rows[:1], [rows[0], {"id": "b", "votes": 6}], [{**row, "tag": "x"} for row in rows]):
        assert not same_documents(ours, pyarrow.Table.from_pylist(theirs))


def test_copying_copies_each_partition(place, tmp_path):
    for synced in (False, True):
        folder = tmp_path / str(synced)
        assert copy(place.dump, folder, place.corpus, 2, synced) == 3072 * TINY.images
        copied = b"".join((folder / str(p)).read_bytes() for p in range(place.corpus.partitions))
        assert copied == place.dump.read_bytes()[: len(copied)]


def test_a_profile_has_the_seconds_of_each_part_and_of_the_rest():
    parts = {"sort": ("percentile",), "numbers": ("sum_of",)}

    def sum_of() -> int:
        return sum(range(200_000))

    seconds = whole.profile(parts, lambda: (percentile(list(range(200_000)), 50), sum_of()))
    assert list(seconds) == ["sort", "numbers", "the rest"]
    assert seconds["numbers"] > 0.0005 and seconds["the rest"] >= 0
    with pytest.raises(KeyError):
        whole.profile(parts, lambda: None)


def test_a_task_is_watched_for_its_peak_of_private_memory():
    def task() -> dict:
        size = len(bytes(bytearray(200_000_000)))
        return {"images": size}

    result = growth.watched(task)
    assert result["images"] == 200_000_000
    assert result["megabytes"] > 200


def test_the_network_of_the_bench_tags_some_images_and_drops_others():
    graph = network.graph()
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 4), np.uint8).repeat(8, 2).repeat(8, 3)
    images = images.reshape(60, 3072)
    votes = Network(tuple("abcdefghij"), graph).votes(images)
    assert network.alone(network.onnx_session(graph, 1), images) == int((votes.max(axis=1) >= 0.4).sum())
    assert 0 < (votes.max(axis=1) >= 0.4).sum() < 60 and network.weights(graph) > 250_000


@pytest.mark.services
def test_users_request_the_given_number_of_pages(place):
    with place.page("none", solr="http://127.0.0.1:1/solr") as (url, _):
        result = full_rows.request_pages(url, 3, ["/healthz"] * 20)
        assert (result["pages"], result["failures"]) == (20, [])
        assert 0 < result["p50"] <= result["p99"]
        result = full_rows.request_pages(url, 2, ["/"] * 4)
        assert result["pages"] == len(result["failures"]) == 4
        assert full_rows.request_pages(url, 1, ["/healthz"] * 10_000, seconds=0.2)["pages"] < 9_000


@pytest.mark.services
def test_groups_measure_equal_work(place, solr, tmp_path):
    place.solr = solr
    results = command.measure(place, ["search", "thumbnails"])
    place.solr_client.delete_alias(ALIAS)
    place.solr_client.delete(place.searched[0].name)
    assert results["problems"] == []
    names = {row["name"] for row in results["rows"]}
    assert names == {"search/facets", "thumbnails/cold", "thumbnails/warm", "thumbnails/page"}
    report.write_json(tmp_path / "out.json", results)
    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    assert set(row) == set(single("whole/read-tags", 1.0))
    assert {"cores", "memory_gib", "versions"} <= set(results["machine"])


def test_a_place_removes_its_files_and_keeps_what_the_next_one_reads(tmp_path):
    with Place(TINY, tmp_path) as place:
        (place.folder / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] in ([], ["kept"])
    with pytest.raises(TinyTagsError, match="GB of disk are needed"), Place(TINY, tmp_path, needed=10**18):
        pass


def test_a_problem_in_one_comparison_is_reported_and_the_others_run(place, monkeypatch, capsys):
    class Broken:
        @staticmethod
        def measured(place):
            yield Comparison("similar/tag", Way(lambda: 1), Way(lambda: 2))
            yield Comparison("similar/index", Way(lambda: 1), Way(lambda: 1))
            raise OSError("no disk")

    monkeypatch.setattr(command, "_module", lambda name: Broken)
    results = command.measure(place, ["kernel"])
    assert [row["name"] for row in results["rows"]] == ["similar/index"]
    assert results["problems"] == [
        "similar/tag: UnequalError: similar/tag: the results of the two ways differ",
        "kernel: OSError: no disk",
    ]
    with pytest.raises(click.exceptions.Exit) as exit:
        command.finish(results)
    assert exit.value.exit_code == 1
    assert "no disk" in capsys.readouterr().out


def test_a_figure_far_from_its_target_is_a_failure(capsys):
    rows = [single("kernel/read", value, megabytes=1) for value in (0.4, 0.05)]
    for failed, some in ((0, rows[:1]), (1, rows)):
        with pytest.raises(click.exceptions.Exit) as exit:
            command.finish({"rows": some, "problems": [], "seconds": 1.0})
        assert exit.value.exit_code == failed
    assert "far from its target: kernel/read" in capsys.readouterr().out
