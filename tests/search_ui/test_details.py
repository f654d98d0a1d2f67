"""Tests of `search_ui.details`: no page has a folder, an address or a user of the machine."""

import getpass
import re
import shutil
import socket
from dataclasses import replace

import pytest

from conf.settings import Settings
from ingest.corpus import open_corpus
from search_ui import create_app, details
from storage import layout
from storage.lease import lease
from storage.runs import Run, create_run
from storage.store import open_store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/tiny images/x.bin: 6,145 bytes", "…/tiny images/x.bin: 6,145 bytes"),
        ("'/data/tiny images/x.bin' is damaged", "'…/x.bin' is damaged"),
        ("hdfs://namenode:8020/tags/runs/r/tags/00001.jsonl: does not answer", "…/00001.jsonl: does not answer"),
        ("Solr at http://10.0.0.1:8983/solr does not answer", "Solr at …/solr does not answer"),
        ("postgresql://ada@db.lab/x, or s3://bucket", "…/x, or …"),
        ("10.0.0.1:8983 refused", "… refused"),
        ("Corpus 'small' has no row 300; it has 0 to 1/2", "Corpus 'small' has no row 300; it has 0 to 1/2"),
    ],
)  # fmt: skip
def test_folders_and_addresses_are_left_out_of_a_text(tmp_path, text, expected):
    with create_app(Settings(store=str(tmp_path))).app_context():
        assert details.public(text) == expected
    with create_app(Settings(store=str(tmp_path), details="yes")).app_context():
        assert details.public(text) == text


PAGES = [
    "/", "/?page=x", "/runs", "/api/runs", "/readyz", "/images/small/0/0", "/api/images/small/0/0", "/models", "/api/models",
    "/classify", "/history", "/api/history", "/history.csv", "/models/broken", "/models/trained", "/api/models/broken", "/corrections", "/api/corrections", "/export.csv", "/about", "/images/none/0/0",
]  # fmt: skip


@pytest.mark.slow
def test_nothing_of_the_machine_is_on_any_page_whatever_fails(library, tmp_path):
    """Solr refuses, the database is damaged, a card, a run and a partition can't be read, and a job writes."""
    shutil.copytree(library.store.root, tmp_path / "store")
    (tmp_path / "bad.db").write_bytes(b"no database" * 1000)
    store = open_store(str(tmp_path / "store"))
    corpus = open_corpus(store, "small")
    store.write_bytes(layout.corpus_images("small", 0), b"no Parquet")
    store.write_bytes(layout.model_card("broken"), b"no JSON")
    store.write_bytes("runs/broken/manifest.json", b"no JSON")
    run = Run(
        "small", corpus.hash, "ten", "0" * 64, 0.4, corpus.classes, corpus.images, corpus.partitions, 10
    )
    create_run(store, run)
    store.write_json(
        layout.run_failed(run.name, 0), {"partition": 0, "error": f"{tmp_path}/store/corpora/x: damaged"}
    )
    settings = Settings(
        store=store.root,
        solr="http://127.0.0.1:1/solr",
        database=f"sqlite:///{tmp_path}/bad.db",
    )
    secrets = map(re.escape, (str(tmp_path.parents[1]), "127.0.0.1", socket.gethostname()))
    user = re.escape(getpass.getuser())
    own = re.compile("|".join([*secrets, f"by {user} on", f'"user": ?"{user}"']))
    with lease(store, layout.run_lease(run.name), "run"):
        leaks = {}
        for with_details in ("no", "yes"):
            page = create_app(
                replace(settings, details=with_details), {"CHECK_SECONDS": 0, "REFRESH_SECONDS": 0}
            ).test_client()
            paths = (*PAGES, f"/runs/{run.name}", f"/api/runs/{run.name}", f"/runs/{library.first.name}")
            texts = {path: own.search(page.get(path).text) for path in paths}
            leaks[with_details] = {path: match[0] for path, match in texts.items() if match}
    assert leaks["no"] == {}
    assert {
        "/",
        "/runs",
        "/api/runs",
        "/readyz",
        "/images/small/0/0",
        "/models/broken",
        f"/runs/{run.name}",
    } <= set(leaks["yes"])
