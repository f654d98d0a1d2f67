"""Labels and relations of as many images as Open Images has: read, indexed, and on the pages, beside DuckDB (of `bench.full`)."""

import json
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np

from bench import made_annotations
from bench.client import Client
from bench.harness import UnequalError, percentile, single
from bench.rows.index import index_bytes
from ingest.annotations.manifest import open_annotations
from storage import layout

NAME = "open"
PER_PAGE = 30
REPEATED = 11  # requests of the pages that have no parameters


@dataclass(frozen=True)
class Request:
    """A page, its SQL for DuckDB with values, and the key of the JSON that has the number which the SQL's last column has."""

    path: str
    sql: str
    values: tuple[str, ...] = ()
    total: str = "total"


def measured(place):
    images, drawn = place.sizes.annotated, made_annotations.sample()
    place.note(f"writing labels and relations of {images:,} images")
    files = place.folder / "annotations"
    made = made_annotations.write(files, images, drawn)
    place.stop_spark()
    options = ("--name", NAME, "--master", f"local[{place.cores}]", "--solr", place.solr.url)
    result = place.run_tinytags("annotations", str(files), *options)
    read = {"labels": result["label_rows"], "relations": result["relation_rows"]}
    if read != made:
        raise UnequalError(f"rows made: {made}, read: {read}")
    about, index = made | {"images": result["images"]}, result["index"]
    yield single("annotations/read", sum(made.values()) / result["seconds"], **about)
    yield single("annotations/index", index["documents"] / index["seconds"], documents=index["documents"])
    collections = [one.name for one in open_annotations(place.store, NAME).sets]
    size = sum(index_bytes(place, collection) for collection in collections)
    yield single("annotations/size", size / index["documents"], total=size / 1e9)
    database = open_duckdb(place, drawn)
    with place.page("tags") as (url, _):
        client = Client(url)
        for kind, requests in kinds(drawn, images, place.sizes.annotation_pages).items():
            yield from page_rows(client, database, kind, requests, place.sizes.rounds)
    for collection in collections:
        place.solr_client.delete_alias(f"{NAME}-{collection.split('-')[1]}")
        place.solr_client.delete(collection)


def open_duckdb(place, drawn: made_annotations.Sample):
    """Return a connection with the rows that the store has, as Parquet, without those that are there twice; and names."""
    import duckdb

    database = duckdb.connect()
    for kind in ("labels", "relations"):
        files = f"{place.store.url(layout.annotations_rows_folder(NAME))}/{kind}/*.parquet"
        database.execute(f"create view {kind} as select distinct * exclude (partition) from '{files}'")
    database.execute("create table names (class text, name text)")
    database.executemany("insert into names values (?, ?)", list(drawn.names.items()))
    return database


def page_rows(client: Client, database, kind: str, requests: list[Request], queries: int):
    """Yield the rows of one kind of pages, each requested once: the HTML, with its facets; and of DuckDB's queries."""
    ours, theirs = [], []
    client.send(requests[0].path)  # of a server that has just started
    for request in requests[1:]:
        began = time.perf_counter()
        client.send(request.path)
        ours.append(1000 * (time.perf_counter() - began))
    for request in requests[-queries:]:
        began = time.perf_counter()
        rows = database.execute(request.sql, request.values).fetchall()
        theirs.append(1000 * (time.perf_counter() - began))
        answer = json.loads(client.send(f"/api{request.path}"))
        total = answer[request.total]
        total = total if isinstance(total, int) else len(total)
        if total != (rows[0][-1] if rows else 0):
            raise UnequalError(f"{request.path}: {total:,} here, {rows[0][-1] if rows else 0:,} in DuckDB")
    for percent in (50, 99):
        yield single(f"annotations/page-p{percent}", percentile(ours, percent), kind=kind, pages=len(ours))
    yield single("annotations/duckdb", percentile(theirs, 50), kind=kind, queries=len(theirs))


def kinds(drawn: made_annotations.Sample, images: int, count: int) -> dict[str, list[Request]]:
    """Return ``count`` different requests of each kind of pages, as far as there are."""
    random = np.random.default_rng(3)
    classes = drawn.frequencies[0]
    present = "from labels where confidence = 1"
    pages = f"order by image limit {PER_PAGE}"
    one = [
        Request(
            _path("images", [("class", drawn.names[label])]),
            f"select image, count(*) over () {present} and class = ? {pages}", (label,),
        )
        for label in random.permutation(classes)[:count].tolist()
    ]  # fmt: skip
    several = [
        Request(
            _path("images", [("class", drawn.names[label]) for label in labels]),
            f"select image, count(*) n, count(*) over () {present} and class in (?, ?, ?) group by image order by n desc, image limit {PER_PAGE}",
            tuple(labels),
        )
        for labels in (random.permutation(classes)[:3].tolist() for _ in range(count))
    ]  # fmt: skip
    related = "from relations join names a on a.class = class1 join names b on b.class = class2"
    relations = []
    for row in random.permutation(len(drawn.relations)).tolist():
        first, relation, second = drawn.relations[row]
        patterns = f"{drawn.names[first][:3]}%", relation, f"%{drawn.names[second][-3:]}"
        relations.append(
            Request(
                _path("relation-search", zip(("class1", "relation", "class2"), patterns, strict=True)),
                f"select image, a.name, relation, b.name, count(*) over () {related} "
                f"where a.name ilike ? and relation ilike replace(?, '_', '\\_') escape '\\' and b.name ilike ? {pages}",
                patterns,
            )
        )
    whole = [
        Request(_path(f"images/{image}"), "select count(*) from (select distinct class from labels where image = ?)", (image,), "present")
        for image in (made_annotations.image_id(number) for number in random.permutation(images)[:count].tolist())
    ]  # fmt: skip
    return {
        "classes": [Request(_path("classes"), f"select class, count(distinct image), count(*) over () {present} group by class")] * REPEATED,
        "relations": [Request(_path("relations"), "select relation, count(distinct image), count(*), count(*) over () from relations group by relation", total="relations")] * REPEATED,
        "images of a class": one,
        "images of several classes": several,
        "relation search": list({request.path: request for request in relations}.values())[:count],
        "one image": whole,
    }  # fmt: skip


def _path(page: str, parameters=()) -> str:
    values = list(parameters)
    return f"/annotations/{NAME}/{page}" + (f"?{urlencode(values)}" if values else "")
