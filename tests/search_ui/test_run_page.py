"""Tests of the page of one run: its sums, its state, and what can be done with it."""

import os
import re
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from searchable import CLASSES, shares

from conf.settings import Settings
from ingest.bad import write_bad
from jobs.partitions import record_failed
from search_ui import create_app
from search_ui.run_totals import TotalsReader
from storage import layout
from storage.runs import create_run, read_statistics
from storage.store import StoreError, open_store

NO_SOLR = "http://127.0.0.1:1/solr"


def words(answer) -> str:
    """Return the text of a page in one line."""
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


@pytest.fixture
def copied(library, tmp_path):
    """A copy of the library's store to write into."""
    shutil.copytree(library.store.root, tmp_path / "store")
    return open_store(str(tmp_path / "store"))


def test_the_sums_of_a_run_are_those_of_its_documents_also_after_a_partition_was_tagged_again(
    library, copied
):
    run, documents = library.first, library.documents[library.first.name]
    reader = TotalsReader(copied, run)
    totals = reader.scan(10)
    assert (totals.read, totals.done) == (run.partitions, run.partitions)
    assert totals.counts["images"] == run.images
    assert totals.counts["tagged"] == len(documents) == run.images - totals.counts["dropped"]
    assert totals.tags == Counter(d["tag"] for d in documents)
    kept = {votes: count for votes, count in totals.votes.items() if votes >= 4}
    assert kept == Counter(d["votes"] for d in documents)
    assert sum(totals.votes.values()) == run.images, "dropped ones too"
    path = layout.run_statistics(run.name, 1)
    copied.write_json(path, read_statistics(copied, run, 1) | {"tags": {"owl": 7}})
    os.utime(copied.url(path), (1e9, 1e9))
    again = reader.scan(10)
    assert again.tags["owl"] == 7 and again.tags["frog"] < totals.tags["frog"]
    assert again.counts == totals.counts and again.first == 1e9


def test_the_rest_of_many_statistics_is_read_by_the_next_scan(library, monkeypatch):
    monkeypatch.setattr("search_ui.run_totals.BATCH", 1)
    reader = TotalsReader(library.store, library.first)
    assert [reader.scan(-1).read for _ in range(4)] == [1, 2, 3, 3]


def test_failures_of_a_run_are_named_without_folders(library, copied):
    run = library.second
    copied.remove(layout.run_statistics(run.name, 2))
    error = StoreError(f"{copied.root}/corpora/x: damaged")
    record_failed(copied, lambda p: layout.run_failed(run.name, p), {2: error}, set())
    copied.write_json(
        layout.run_statistics(run.name, 0),
        read_statistics(copied, run, 0) | {"bad": 2, "labelled": 0, "right": 0},
    )
    write_bad(copied, library.corpus.name, 0, [{"row": 5, "name": "x.png", "reason": "is truncated"}])
    page = create_app(Settings(store=copied.root, solr=NO_SOLR), {"REFRESH_SECONDS": 0}).test_client()
    answer = page.get(f"/runs/{run.name}")
    text = words(answer)
    assert "Of 2 of 3 partitions" in text
    assert "Partition 2: …/x: damaged To redo it: tinytags tag" in text
    assert "Bad records 2 : they could not be decoded" in text
    assert copied.root not in answer.text and "here" not in re.findall(r"<dd>([^<]*)</dd>", answer.text)
    data = page.get(f"/api/runs/{run.name}").json
    assert (data["totals"]["bad"], data["totals"]["partitions"]) == (2, 2)
    assert data["state"]["tag"] == {"pending": 0, "done": 2, "failed": 1} and data["state"]["index"] is None
    assert page.get("/runs/none").status_code == page.get("/api/runs/none").status_code == 404


@pytest.mark.services
def test_a_published_run_has_its_counts_and_leads_to_its_searches(page, searchable):
    run, documents = searchable.first, searchable.documents[searchable.first.name]
    answer = page.get(f"/runs/{run.name}")
    text = words(answer)
    assert f"{100 * len(documents) / 700:.1f} % of 700 images have a tag" in text
    dropped = 700 - len(documents)
    assert f"Dropped {dropped} ({100 * dropped / 700:.1f} %): their confidence is below 40 %" in text
    assert "tiny-images, labels of 4 classes" in text and "10 votes an image, 4 classes, hash" in text
    assert "tinytags publish" not in text and "<button>Publish" not in answer.text
    data = page.get(f"/api/runs/{run.name}").json
    assert data["classes"] == CLASSES and data["state"]["published"] and "numpy" in data["versions"]
    histogram = {bar["percent"]: bar["images"] for bar in data["totals"]["confidence"]}
    assert {at: count for at, count in histogram.items() if at >= 40 and count} == Counter(
        map(shares, documents)
    )
    links = set(re.findall(r'href="(/[^"]*)"', answer.text.replace("&amp;", "&")))
    for link, count in {
        f"/?run={run.name}": len(documents),
        f"/?tag=frog&run={run.name}": data["totals"]["tags"]["frog"],
        f"/?run={run.name}&confidence=60-60": histogram[60],
    }.items():
        assert link in links
        assert page.get(link.replace("/?", "/api/search?")).json["total"] == count
    assert f"/export.csv?run={run.name}" in links
    assert not any("confidence=30" in link for link in links), "dropped images have no tag"


@pytest.mark.services
def test_a_run_that_is_indexed_but_not_published_is_published_from_its_page(page, searchable, show):
    run = searchable.second
    path = f"/runs/{run.name}"
    answer = page.get(path)
    assert f'name="run" value="{run.name}"' in answer.text and 'action="/publish"' in answer.text
    assert f"instead of {searchable.first.name}" in words(answer)
    assert f'href="/changes?run={run.name}"' in answer.text
    stranger = page.get(path, environ_overrides={"REMOTE_ADDR": "10.1.2.3"})
    assert 'action="/publish"' not in stranger.text
    assert f"tinytags publish {run.name}" in words(stranger)
    assert f'href="/?run={run.name}"' in answer.text, "a preview of its search"
    preview = page.get(f"/?tag=frog&run={run.name}")
    documents = [d for d in searchable.documents[run.name] if d["tag"] == "frog"]
    assert f"{len(documents)} images" in words(preview) and "Preview: this run is not published" in words(
        preview
    )
    assert page.get(f"/api/search?tag=frog&run={run.name}").json["total"] == len(documents)
    with page.get(f"/export.txt?tag=frog&run={run.name}") as export:
        assert set(export.text.split()) == {d["id"] for d in documents}
    image = re.search(r'href="(/images/[^"]*at=3)"', preview.text)[1].replace("&amp;", "&")
    assert f"4 of {len(documents)}" in words(page.get(image)) and ">seven<" in page.get(image).text
    assert page.get("/api/search?tag=frog").json["collections"] == [searchable.first.name]
    show(searchable.first)
    assert page.post("/publish", data={"run": run.name}).status_code == 303
    assert "Search this run" in page.get(path).text
    assert "Preview" not in page.get(f"/?run={run.name}").text


@pytest.mark.services
def test_a_run_that_is_not_in_solr_has_no_preview(settings, searchable, copied):
    run = replace(searchable.first, min_confidence=0.5)
    create_run(copied, run)
    page = create_app(replace(settings, store=copied.root)).test_client()
    assert "Preview" not in page.get(f"/runs/{run.name}").text
    assert "No image matches this filter" in words(page.get(f"/?run={run.name}"))


@pytest.mark.services
def test_the_histogram_of_a_network_is_that_of_its_published_tags(page, searchable, show):
    run, documents = searchable.network, searchable.documents[searchable.network.name]
    assert page.get(f"/api/runs/{run.name}").json["totals"]["confidence"] == []
    show(run)
    bars = page.get(f"/api/runs/{run.name}").json["totals"]["confidence"]
    assert {bar["percent"]: bar["images"] for bar in bars if bar["images"]} == Counter(map(shares, documents))
