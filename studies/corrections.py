"""How a correction can reach searches: an atomic update of Solr, an in-place one, or kept beside the index.

    python -m studies.corrections --documents 2000000

prints the figures of docs/performance.md, *Corrections*. Solr's fields for the two updates exist only here.
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

import indexing.solr
from conf.command import run
from indexing.query.cells import query_cells
from indexing.query.people import LabelledDocuments
from indexing.solr import Solr
from ingest.corpus import Corpus
from operations import services
from records.corrections import Label, open_corrections
from records.majority import peoples_labels

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RUN, PARTITION, BATCH, TRIES = "measured-01234567", 20_000, 50_000, 5
FIELDS = """
  <field name="state" type="string" indexed="true"/>
  <field name="state_number" type="int" indexed="false"/>
"""


def documents(count: int) -> Iterator[list[dict]]:
    """Yield documents of a run, each with a random tag, votes and runner-up, one in ten with a label."""
    random = np.random.default_rng(1)
    for start in range(0, count, BATCH):
        votes, tags = random.integers(4, 11, BATCH).tolist(), random.integers(0, 10, (BATCH, 3)).tolist()
        yield [
            {
                "id": f"01234567:{n // PARTITION}:{n % PARTITION}", "corpus": "measured", "partition": n // PARTITION,
                "row": n % PARTITION, "tag": CLASSES[tag], "votes": vote, "trees": 10, "confidence": vote / 10,
                "runner_up": CLASSES[other], "runner_up_votes": 1, "model": "forest", "run": RUN,
            } | ({"label": CLASSES[label]} if n % 10 == 0 else {})
            for n, vote, (tag, other, label) in zip(range(start, min(start + BATCH, count)), votes, tags, strict=False)
        ]  # fmt: skip


@contextmanager
def collection(count: int, folder: Path) -> Iterator[Solr]:
    """Start Solr with a collection of ``count`` documents whose schema has the two fields more."""
    shutil.copytree(indexing.solr.CONFIGSET, folder / "tags")
    schema = folder / "tags" / "schema.xml"
    schema.write_text(schema.read_text().replace("</schema>", f"{FIELDS}</schema>"))
    indexing.solr.CONFIGSET = folder / "tags"
    service = services.Solr(folder / "solr", port=services.free_port(1000))
    service.start()
    try:
        solr = Solr(service.url, patience=60)
        solr.create(RUN)
        for batch in documents(count):
            solr.update(RUN, json.dumps(batch).encode())
        solr.commit(RUN)
        yield solr
    finally:
        service.stop()


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def report(what: str, times: list[float]) -> None:
    """Print the median of some times, the least and the most."""
    low, middle, high = (1000 * time for time in (min(times), statistics.median(times), max(times)))
    print(f"{what}: {middle:,.1f} ms ({low:,.1f}-{high:,.1f})", flush=True)


def update(solr: Solr, field: str, value: object, numbers: list[int]) -> None:
    """Set a field of documents, and open a new searcher, as a soft commit does."""
    changed = [{"id": f"01234567:{n // PARTITION}:{n % PARTITION}", field: {"set": value}} for n in numbers]
    solr.update(RUN, json.dumps(changed).encode())
    solr._write(RUN, {"softCommit": "true", "openSearcher": "true", "waitSearcher": "true"}, b"{}")


def search(solr: Solr, filter: str) -> None:
    parameters = {"q": "{!bool must=$levels must=$filter}", "levels": "votes:[4 TO 10]", "filter": filter}
    solr.select(RUN, parameters | {"sort": "confidence desc,id asc", "rows": 30, "minExactCount": 30})


@click.command("corrections")
@click.option("--documents", "count", default=2_000_000, show_default=True, help="Documents in Solr.")
def main(count: int) -> None:
    """Measure three ways in which corrections can reach searches, on a Solr of its own."""
    with tempfile.TemporaryDirectory() as name, collection(count, Path(name)) as solr:
        report("page of a search", [seconds(lambda: search(solr, "tag:frog")) for _ in range(TRIES)])
        report("counting all documents", [seconds(lambda: query_cells(solr, RUN)) for _ in range(TRIES)])
        for kind, field, value, query in (
            ("in-place", "state_number", 1, "state_number:[1 TO 1]"),
            ("atomic", "state", "corrected", "state:corrected"),
        ):
            measure_update(solr, kind, field, value, count)
            measure_filter(solr, kind, query)
        for labelled in (1, 1_000, 10_000, 100_000):
            measure_beside(solr, f"sqlite:///{name}/{labelled}.db", labelled, count)


def measure_update(solr: Solr, kind: str, field: str, value: object, count: int) -> None:
    """Report what an update of Solr takes, and what the next page has to wait for."""
    for size in (1, 1000):
        updates, pages, counts = [], [], []
        for numbers in (np.random.default_rng(n).choice(count, size, replace=False) for n in range(TRIES)):
            began = time.perf_counter()
            update(solr, field, value, numbers.tolist())
            updates.append(time.perf_counter() - began)
            pages.append(seconds(lambda: search(solr, "tag:frog")))
            counts.append(seconds(lambda: query_cells(solr, RUN)))
        report(f"{kind} update of {size} and soft commit", updates)
        report(f"{kind}: first page afterwards", pages)
        report(f"{kind}: counting again", counts)


def measure_filter(solr: Solr, kind: str, query: str) -> None:
    """Report what a page filtered by a field takes."""
    # Each with another range, so that Solr has cached none.
    filters = [f"+{query} +row:[{n} TO *]" for n in range(TRIES)]
    report(f"{kind}: filter", [seconds(lambda: search(solr, filters.pop())) for _ in range(TRIES)])


def measure_beside(solr: Solr, url: str, labelled: int, count: int) -> None:
    """Report what is read of the database and of Solr with ``labelled`` images, and a filter of these."""
    database = open_corrections(url)
    corpus = Corpus("measured", "x", "x", {}, images=count, partition_images=PARTITION)
    numbers = np.random.default_rng(labelled).choice(count, labelled, replace=False).tolist()
    database.add_many([Label(corpus, n // PARTITION, n % PARTITION, "frog") for n in numbers], "Ada")
    labels = {(n // PARTITION, n % PARTITION): "frog" for n in numbers}
    ids = ",".join(f"01234567:{n // PARTITION}:{n % PARTITION}" for n in numbers)

    def repeated(what: str, function: Callable[[], object]) -> None:
        report(f"beside, {labelled}: {what}", [seconds(function) for _ in range(TRIES)])

    repeated("version of the database", database.version)
    repeated("all labels", lambda: peoples_labels(database.newest()))
    repeated("their documents", lambda: LabelledDocuments(solr, RUN).given(labels))
    repeated("filter", lambda: search(solr, f"{{!terms f=id}}{ids}"))


if __name__ == "__main__":
    run(main)
