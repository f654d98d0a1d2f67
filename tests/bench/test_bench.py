"""Tests of the bench: its statistics, its tables and files, and its checks that two ways have the same results."""

import dataclasses
import json

import numpy as np
import pytest

from bench import __main__ as command
from bench import full, load, made, plots, report, scale, similar
from bench.harness import (
    Comparison,
    Figure,
    Latencies,
    UnequalError,
    Way,
    compare,
    percentile,
    reaches,
    single,
    speed,
)
from bench.place import Place
from bench.rows.ingest import copy
from bench.rows.tag import same_documents
from bench.sizes import TINY
from conf.errors import TinyTagsError
from ingest.corpus import read_partition
from storage.runs import read_statistics


def ways(ours, theirs, **options) -> Comparison:
    """A comparison whose two ways take the given seconds, one run after the other, and return "same"."""
    times = {"ours": iter(ours), "theirs": iter(theirs)}
    both = [Way(name, lambda name=name: Latencies([next(times[name])], "same"), 10) for name in times]
    return Comparison("a/b", "a", *both, "images", rounds=len(ours) - 1, **options)


# Rounds


def test_a_ratio_is_computed_for_each_round_and_its_median_is_the_figure():
    (row,) = compare(ways([9, 1, 2, 4], [9, 4, 4, 4], figures=(speed(1.5),)))
    assert row["values"] == [4, 2, 1], "the warm-up does not count"
    assert (row["value"], row["least"], row["most"]) == (2, 1, 4)
    assert (row["reached"], row["failed"]) == (True, False)
    assert row["ours"]["rate"] == 5
    assert row["theirs"]["seconds"] == 4


def test_ways_take_turns():
    order = []
    both = [Way(name, lambda name=name: order.append(name), 1, before=lambda: None) for name in "ab"]
    compare(Comparison("a/b", "a", *both, "images", rounds=3, warm_ups=2))
    assert order == ["a", "b"] * 5


def test_preparation_is_not_timed():
    slow = Way("slow to prepare", lambda: None, 1, before=lambda: __import__("time").sleep(0.05))
    (row,) = compare(Comparison("a/b", "a", slow, Way("quick", lambda: None, 1), "images", rounds=1))
    assert row["ours"]["seconds"] < 0.04


def test_a_short_way_is_repeated_within_its_round():
    runs = []
    quick = Way("quick", lambda: runs.append(1), 1)
    (row,) = compare(Comparison("a/b", "a", quick, Way("b", lambda: None, 1), "images", rounds=1))
    assert len(runs) > 100
    assert row["ours"]["runs"] == 1


def test_different_results_are_an_error():
    different = Comparison("a/b", "a", Way("one", lambda: 1, 1), Way("two", lambda: 2, 1), "images")
    with pytest.raises(UnequalError, match="a/b: one and two differ"):
        compare(different)
    answers = iter([1, 1, 1, 2])
    changing = dataclasses.replace(
        different, theirs=Way("two", lambda: next(answers), 1, before=lambda: None), rounds=3
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


# Tables and files


@pytest.fixture
def results():
    """Results as a bench leaves them, of made-up figures."""
    rows = compare(ways([1, 1, 2], [8, 8, 8], figures=(speed(0.55),), note="a note"))
    rows[0] |= {"name": "kernel/read", "step": "kernel | one core"}
    rows += compare(ways([1, 1], [9, 9], figures=(Figure("ratio", speed().of, 15), speed())))
    for trees in (10, 50):
        (row,) = compare(ways([1, 1 + trees], [1, 1]))
        rows.append(
            row | {"name": f"kernel/curve-{trees}-10", "about": {"trees": trees, "depth": 10, "nodes": 1234}}
        )
    named = {
        "hdfs/ingest": 1e5, "hdfs/tag": 2e5, "ingest/copy-to-disk": 1e5, "train/prepare": 10.0,
    }  # fmt: skip
    for name, rate in named.items():
        side = {"work": 100, "rate": rate, "seconds": 20.0}
        rows.append(single(name, name, "other", 1.0) | {"ours": side, "theirs": side, "work_unit": "images"})
    rows += [
        single(f"growth/{step}-memory", step, "memory", 200.0, "MB", 300, True) for step in ("ingest", "tag")
    ]
    growth = [["index", n, 2, 20_000, n / 1e4, 1e4, None, None] for n in (10_000, 100_000)]
    growth += [
        ["tag", n, cores, 20_000, n / 1e5, 1e5, 150.0, 61.5] for n in (10_000, 100_000) for cores in (1, 2)
    ]
    whole = [["ingest", "start", 3.5, 0.5], ["index", "read tags, hash", 3.5, 0.5]]
    return {
        "version": 1, "mode": "full", "seconds": 60.0, "real_images": True, "parquet_bytes": 3080.5,
        "machine": {"cores": 2, "memory_gib": 24, "load": 0.1, "versions": {"python": "3.11"}},
        "rows": rows, "problems": [],
        "tables": [
            {"name": "growth", "title": "Growth", "columns": ["step", "images", "cores", "partition", "seconds", "images/s",
             "private MB", "mapped MB"], "rows": growth[::-1], "note": ""},
            {"name": "whole", "title": "Whole", "columns": ["step", "part", "seconds", "share"], "rows": whole, "note": "so"},
        ],
    }  # fmt: skip


@pytest.fixture
def full_results():
    """Results as the full bench leaves them."""
    requested = {
        "p50_ms": 2.5,
        "p99_ms": 9.0,
        "pages_per_second": 100.0,
        "pages": 10,
        "failed": 0,
        "failure": None,
    }
    page = {
        f"{name}, {users}": requested for name in ("first", "filtered", "page 1,000") for users in load.USERS
    }
    step = {"images": 5_000_000, "images_per_second": 5e5, "parts_per_second": [1e5] * 10}
    found = {
        "index": {"documents": 56_000_000, "documents_per_second": 5e4, "kept": 0.71, "line_bytes": 230.0,
                  "index_bytes": 2.5e9, "heap": "2g", "heap_used_bytes": 1.2e9, "solr_peak_bytes": 2.5e9,
                  "parts_per_second": [5e4] * 9 + [4e4]},
        "page": page | {"counting_seconds": 1.5, "export": {"lines": 1_000_000, "lines_per_second": 5e4}},
        "images": {"ingest": step, "tag": step},
        "machine": {"cores": 2, "memory_gib": 24, "load": 0.1, "versions": {"python": "3.11"}},
        "seconds": 3000.0, "real_images": True,
    }  # fmt: skip
    rows = full.index_rows(found["index"]) + load.page_rows(found["page"]) + full.image_rows(found["images"])
    return found | {"rows": rows}


def test_a_line_has_figure_spread_target_and_rates(results):
    line = report.line(results["rows"][0])
    assert line.split()[:6] == ["kernel/read", "6.00x", "(4.00-8.00)", "at", "least", "0.55x"]
    assert line.endswith("reached  7.5 images/s against 1.25 images/s")
    assert "SHORT" in report.line(results["rows"][1])


def test_the_section_has_a_row_a_figure_and_tables_of_the_rest(results):
    section = report.section(results)
    assert (
        "| kernel \\| one core | theirs | 7.5 images/s | 1.25 images/s | 6.00x (4.00-8.00) | at least 0.55x: reached |"
        in section
    )
    assert "| 50 | 10 | 1,234 |" in section
    assert "| index | 100,000 | 2 | 20,000 | 10.0 | 10,000 |  |  |" in section
    assert "*kernel | one core, against theirs*: a note." in section
    assert section.count("\n| ---") + section.count("\n|---") == 4


def test_a_section_replaces_only_the_text_between_its_markers(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(
        "before\n\n<!-- bench: begin, written by the bench -->\n\nold\n\n<!-- bench: end -->\n\nafter\n"
    )
    for text in ("new", "newer"):
        report.write_section(path, "bench", text)
        assert path.read_text() == (
            f"before\n\n<!-- bench: begin, written by the bench -->\n\n{text}\n\n<!-- bench: end -->\n\nafter\n"
        )
    with pytest.raises(TinyTagsError, match="has no one section"):
        report.write_section(path, "other", "x")


def test_documents_have_the_sections_that_are_written(results, full_results, tmp_path):
    for document, name, text in (
        (command.DOCUMENT, "bench", report.section(results)),
        (scale.DOCUMENT, "bench-full", scale.full_section(full_results)),
        (scale.DOCUMENT, "scale", scale.section(results, full_results)),
    ):
        copy = tmp_path / document.name
        copy.write_text(document.read_text())
        report.write_section(copy, name, text)
        assert text in copy.read_text()


def test_plots_are_small(results, tmp_path):
    drawn = plots.draw(results, tmp_path)
    assert [path.name for path in drawn] == ["ratios.svg", "kernel.svg", "growth.svg", "whole.svg"]
    assert all(1000 < path.stat().st_size < plots.MOST_BYTES for path in drawn)
    again = plots.draw(results, tmp_path / "again")
    assert [path.read_bytes() for path in drawn] == [path.read_bytes() for path in again]


def test_scale_is_derived_from_the_rates_of_the_results(results, full_results):
    rates = scale.rates(results, full_results)
    assert rates.disk == 1e5 * 3072
    one = {step.name: step for step in scale.one_machine(rates)}
    assert one["ingest"].hours == pytest.approx(scale.IMAGES / 5e5 / 3600)
    assert one["index"].hours == pytest.approx(scale.IMAGES * 0.71 / 5e4 / 3600)
    slow, quick = (scale.cluster(rates, 10, gbits)[0] for gbits in (1, 10))
    assert (slow.wall, quick.wall) == ("network", "disks")
    moved = scale.IMAGES * (3072 * 0.7 + 3080.5 * 2)
    assert slow.moved == pytest.approx(moved)
    assert slow.hours == pytest.approx(moved / (10 * 125e6) / 3600)
    assert all((step.name, step.wall) in scale.MOVES for step in scale.cluster(rates, 40, 10))
    section = scale.section(results, full_results)
    assert "| corpus | 79,302,017 images x 3,080 bytes in Parquet | 244.3 GB |" in section
    assert "79,302,017 images / 1,000,000 images a second" in section
    results["rows"] = [row for row in results["rows"] if row["name"] != "hdfs/tag"]
    with pytest.raises(TinyTagsError, match="lack 'hdfs/tag'"):
        scale.rates(results, full_results)


def test_evenness_is_the_rate_in_each_part():
    assert full.rates([(100, 0), (110, 50), (120, 100)], 100, 2) == [5, 5]
    assert full.rates([(0, 0), (10, 80), (30, 100)], 100, 2) == pytest.approx([8, 50 / 23.75])
    # A pause belongs to the part before it, and none is left out.
    assert full.rates([(0, 0), (5, 50), (15, 50), (20, 100)], 100, 2) == pytest.approx([50 / 15, 10])
    assert full.rates([(0, 0), (4, 0), (5, 50), (6, 100), (10, 100)], 100, 2) == pytest.approx([10, 10])


def test_rows_of_the_full_bench_have_their_targets(full_results):
    rows = {row["name"]: row for row in full_results["rows"]}
    assert rows["full/index-even"]["value"] == 0.8
    assert rows["full/filtered-1-p99"]["target"] == 60
    assert rows["full/filtered-20-p99"]["target"] is None
    assert (rows["full/failed"]["against"], rows["full/failed"]["reached"]) == ("of 60", True)
    assert "| filtered page | p50, 1 user | 2.50 ms | at most 15 ms: reached |" in scale.full_section(
        full_results
    )


# What is measured


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with Place(TINY, str(tmp_path_factory.mktemp("bench"))) as place:
        yield place


def test_a_dump_and_its_corpus_hold_the_same_varied_images(place):
    images = np.concatenate([block.images for block in read_partition(place.store, place.corpus, 0)])
    assert np.array_equal(images, place.images(TINY.partition))
    assert len(np.unique(place.images(300), axis=0)) > 290
    assert np.array_equal(place.images(300), place.images(1_200)[:300]), (
        "a longer dump begins like a shorter one"
    )
    assert place.dump.stat().st_size == 3072 * max(TINY.images, 30 * TINY.thumbnail_partition)


def test_trees_cut_and_moved_are_other_trees_of_the_same_kind(place):
    grown = made.plain_trees(place.grown(TINY.curve_grown, 6))
    cut = made.packed(made.plain_trees(place.grown(TINY.curve_grown, 6), 3))
    assert max(made.packed(grown).depths) == 6
    assert max(cut.depths) == 3
    more = made.packed(made.more_trees(grown, 3 * len(grown)))
    votes = more.votes(place.pool[:50])
    assert (votes.sum(axis=1) == 3 * len(grown)).all()
    parts = [made.packed(made.more_trees(grown, 3 * len(grown))[i : i + len(grown)]) for i in (0, 5, 10)]
    assert np.array_equal(votes, sum(part.votes(place.pool[:50]) for part in parts))
    assert not np.array_equal(parts[0].votes(place.pool[:50]), parts[1].votes(place.pool[:50]))


def test_the_kernel_votes_as_scikit_learn_and_onnxruntime_do(place):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("skl2onnx")
    from bench.rows.kernel import against_onnx, against_scikit_learn

    images = place.images(TINY.predict)
    ours = Way("ours", lambda: place.forest.votes(images), len(images))
    for against in (against_scikit_learn, against_onnx):
        (row,) = compare(against(ours, place.scikit_forest, images, 1))
        assert row["equal"]
    other = Way("ours", lambda: np.roll(place.forest.votes(images), 1, axis=0), len(images))
    with pytest.raises(UnequalError):
        compare(against_scikit_learn(other, place.scikit_forest, images, 1))


def test_a_drawn_run_has_statistics_and_documents_that_agree(place):
    run, documents = made.drawn_run(place.store, "drawn", place.votes, 700, partition=300)
    statistics = [read_statistics(place.store, run, p) for p in range(3)]
    assert [s["images"] for s in statistics] == [300, 300, 100]
    assert sum(s["tagged"] for s in statistics) == documents
    lines = [place.store.read_bytes(f"runs/{run.name}/tags/{p:05d}.jsonl").splitlines() for p in range(3)]
    assert [len(part) for part in lines] == [s["tagged"] for s in statistics]
    kept = {(votes.max(), np.sort(votes)[-2]) for votes in place.votes if votes.max() >= 4}
    for document in map(json.loads, lines[0]):
        assert (document["votes"], document.get("runner_up_votes", 0)) in kept


def test_different_documents_are_an_error_in_any_order():
    ours = [b'{"id":"a","votes":4}', b'{"id":"b","votes":5}']
    same_documents(ours, ours[::-1])
    for theirs in (
        [b'{"id":"a","votes":4}'],
        [ours[0], b'{"id":"b","votes":6}'],
        [ours[0], b'{"id":"c","votes":5}'],
    ):
        with pytest.raises(UnequalError):
            same_documents(ours, theirs)


def test_copying_copies_each_partition(place, tmp_path):
    for synced in (False, True):
        folder = tmp_path / str(synced)
        assert copy(place.dump, folder, place.corpus, 2, synced) == 3072 * TINY.images
        copied = b"".join((folder / str(p)).read_bytes() for p in range(place.corpus.partitions))
        assert copied == place.dump.read_bytes()[: len(copied)]


@pytest.mark.services
def test_similar_images_are_those_of_a_comparison_with_all(place, monkeypatch):
    monkeypatch.setattr(similar, "QUERIES", 40)
    rows, sizes, searched = similar.measure(place)
    assert [row["name"] for row in rows] == ["similar/tag", "similar/index"] and all(
        row["equal"] for row in rows
    )
    assert searched["documents"] == rows[1]["ours"]["work"] and searched["recall"] > 0.98
    assert sizes["with"][1] > sizes["without"][1] + 60
    text = similar.section(place, rows, sizes, searched)
    assert text.count("\n| ") == 5 and "index, bytes a document" in text


@pytest.mark.services
def test_users_request_the_given_number_of_pages(place):
    with place.page("none", solr="http://127.0.0.1:1/solr") as (url, _):
        result = load.request_pages(url, 3, iter(["/healthz"] * 20), 20)
        assert (result["pages"], result["users"], result["failed"]) == (20, 3, 0)
        assert 0 < result["p50_ms"] <= result["p99_ms"] <= result["most_ms"]
        result = load.request_pages(url, 2, iter(["/"] * 4), 4)
        assert (result["pages"], result["failed"]) == (4, 4)
        assert result["failure"] == "GET / has status 503"
        assert load.request_pages(url, 1, iter(["/healthz"] * 10**6), 10**6, seconds=0.3)["pages"] < 10**5


@pytest.mark.services
def test_groups_measure_equal_work(place, tmp_path):
    results = command.measure(place, ["search", "page", "thumbnails"])
    assert results["problems"] == []
    names = {row["name"] for row in results["rows"]}
    assert {
        "search/facets",
        "page/solr",
        "page/export",
        "thumbnails/cold",
        "thumbnails/warm",
        "thumbnails/page",
    } == names
    report.write_json(tmp_path / "out.json", results)
    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    assert set(row) == set(single("a", "b", "c", 1.0))
    assert {"cores", "memory_gib", "versions"} <= set(results["machine"])


def test_a_place_removes_its_files_and_keeps_what_the_next_one_reads(tmp_path):
    with Place(TINY, str(tmp_path)) as place:
        assert place.dump.exists() and len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_problem_in_one_comparison_is_reported_and_the_others_run(place, monkeypatch, capsys):
    class Broken:
        @staticmethod
        def measured(place):
            yield Comparison("broken/a", "a", Way("one", lambda: 1, 1), Way("two", lambda: 2, 1), "images")
            yield Comparison(
                "broken/b", "b", Way("one", lambda: 1, 1), Way("two", lambda: 1, 1), "images", rounds=1
            )
            raise OSError("no disk")

    monkeypatch.setattr(command, "_module", lambda name: Broken)
    results = command.measure(place, ["kernel"])
    assert [row["name"] for row in results["rows"]] == ["broken/b"]
    assert results["problems"] == [
        "broken/a: UnequalError: broken/a: one and two differ",
        "kernel: OSError: no disk",
    ]
    assert command.print_results(results) == 1
    assert "no disk" in capsys.readouterr().out


def test_a_figure_far_from_its_target_is_a_failure(capsys):
    rows = [single("a/near", "a", "b", 0.4, target=0.55), single("a/far", "a", "b", 0.05, target=0.55)]
    assert command.print_results({"rows": rows[:1], "problems": []}) == 0
    assert command.print_results({"rows": rows, "problems": []}) == 1
    assert "far from its target: a/far" in capsys.readouterr().out
