"""Tests of the demo: the whole way by the real command, with a Solr of its own, and what it does where there are no data."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from small_world import (
    alive,
    clean_environment,
    error_line,
    finish,
    make_corpus,
    run,
    run_process,
    start,
    stop_group,
    wait_until,
    write_cifar,
    write_tiny_images,
)

from conf.errors import TinyTagsError
from conf.settings import Settings
from indexing.solr import Solr
from ingest.annotations.manifest import list_annotations, open_annotations
from operations import demo
from operations.demo_annotations import SCENES
from operations.services import free_port, get_json
from search_ui import create_app
from storage.runs import list_runs
from storage.store import open_store


@pytest.fixture
def place(tmp_path):
    """The environment of a demo that shares nothing with other tests."""
    port = free_port(1000)
    return {
        "TINYTAGS_STORE": str(tmp_path / "store"),
        "TINYTAGS_SOLR": f"http://127.0.0.1:{port}/solr",
        "TINYTAGS_SERVICES_DIR": str(tmp_path / "services"),
        "TINYTAGS_SOLR_HEAP": "512m",
    }


@pytest.fixture
def beside(place, solr):
    """The environment of a demo that uses the Solr of other tests, which runs already."""
    yield place | {"TINYTAGS_SOLR": solr.url, "TINYTAGS_ALIAS": "demo"}
    client = Solr(solr.url, patience=60)
    client.delete_alias("demo")
    store = open_store(place["TINYTAGS_STORE"])
    for run_name in list_runs(store):
        client.delete(run_name)
    for name in list_annotations(store):
        for part in open_annotations(store, name).sets:
            client.delete_alias(part.alias)
            client.delete(part.name)


@pytest.mark.services
def test_the_demo_goes_the_whole_way_and_again_at_once(place, tmp_path):
    labelled = write_cifar(tmp_path / "images" / "cifar-10-batches-bin", 1_000, 300).parent
    names = labelled / "cifar-10-batches-bin" / "batches.meta.txt"
    names.write_text(
        names.read_text().replace("cat\n", "cat, tabby\n")
    )  # class names may hold what lists are made with
    port = free_port()
    words = ["demo", "--data", labelled, "--engine", "scikit-learn", "--port", port]
    process = start(*words, **place)
    try:
        wait_until(lambda: get_json(f"http://127.0.0.1:{port}/api/search"), process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/search") as answer:
            result = json.load(answer)
    finally:
        stop_group(process, 2)  # Ctrl-C
    _, err = finish(process, 130 if process.poll() == 130 else 0)
    assert result["total"] > 0
    assert "cat, tabby" in json.dumps(result)
    for verb in ("ingest", "train", "tag", "index", "verify"):
        assert f"$ tinytags {verb} " in err
    assert "300 images that the model was not trained on are now a dump" in err
    assert "stopping Solr" in err
    assert get_json(f"{place['TINYTAGS_SOLR']}/admin/info/system") is None, (
        "Ctrl-C stops what the demo started"
    )

    out, err = run_process(*words, "--no-serve", **place)
    assert "is trained already" in err
    assert (out + err).count("all done already") == 3
    assert "0 partitions posted now" in out


@pytest.mark.services
def test_an_unlabelled_dump_is_tagged_by_what_cifar_10_teaches(beside, tmp_path):
    dump = write_tiny_images(tmp_path / "tiny_images.bin", 500)
    write_cifar(tmp_path / "store" / "cifar-10-batches-bin", 600, 100)
    _, err = run_process("demo", "--data", dump, "--engine", "scikit-learn", "--no-serve", **beside)
    assert "training on the labelled images in" in err
    assert f"$ tinytags ingest {dump} --corpus tiny-images" in err


NO_NETWORK = """
import sys
from operations import demo
demo.CIFAR_URL = "http://127.0.0.1:1/cifar-10-binary.tar.gz"
import tinytags
tinytags.main(sys.argv[1:])
"""


@pytest.mark.services
def test_without_network_it_goes_on_with_digits_and_after_an_interruption_where_it_was(beside, tmp_path):
    command = [
        sys.executable,
        "-c",
        NO_NETWORK,
        "demo",
        "--no-serve",
        "--engine",
        "scikit-learn",
        "--annotations",
    ]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **output, env=clean_environment(**beside), start_new_session=True)
    corpus = tmp_path / "store" / "corpora" / "digits"
    wait_until(lambda: (corpus / "manifest.json").exists(), process)
    stop_group(process, signal.SIGINT)
    _, err = finish(process, 130)
    assert "demo: continuing with the 1,797 handwritten digits of scikit-learn" in err
    assert not (corpus / "lease.json").exists(), "the verb that ran gave its lease back"
    wait_until(lambda: not alive(process))

    process = subprocess.Popen(command, **output, env=clean_environment(**beside), start_new_session=True)
    out, err = finish(process)
    assert "corpus digits: 1,797 images" in out
    assert re.search(r"\d\d\.\d% of [\d,]+ tags with a known label are right", err)
    assert out.count(": no differences") == 2
    assert not alive(process)

    page = create_app(Settings(beside["TINYTAGS_STORE"], solr=beside["TINYTAGS_SOLR"])).test_client()
    pages = "/api/annotations/digits-scenes"
    odd = page.get(f"{pages}/images?class=Odd+digit&descendants=1").json
    assert 0 < odd["total"] < SCENES
    (first, *_) = page.get(f"{pages}/relation-search?class1=7&relation=left%25").json["rows"]
    image = page.get(f"{pages}/images/{first['image']}").json
    assert (first["class1"], first["relation"]) == ("7", "left_of") and "7" in image["present"]
    assert (
        image["absent"]
        and len(image["relations"]) <= 4
        and [one["corpus"] for one in image["pictures"]] == ["digits-scenes"]
    )


def test_a_download_goes_on_where_it_ended_and_is_checked(tmp_path):
    import hashlib
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Ranged(SimpleHTTPRequestHandler):
        requested: list[str | None] = []  # noqa: RUF012

        def do_GET(self):
            self.requested.append(self.headers["Range"])
            start = int((self.headers["Range"] or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:])

        def log_message(self, *_):
            pass

    data = bytes(range(256)) * 4_000
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranged, directory=str(tmp_path)))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url, path = f"http://127.0.0.1:{server.server_port}/x", tmp_path / "out" / "x"
    try:
        path.parent.mkdir()
        path.with_name("x.part").write_bytes(data[:1_000])
        demo.download(url, path, hashlib.sha256(data).hexdigest(), len(data))
        assert path.read_bytes() == data
        assert Ranged.requested == ["bytes=1000-"]
        with pytest.raises(TinyTagsError, match=r"sha256 is .* not 0000"):
            demo.download(url, tmp_path / "y", "0" * 64, len(data))
        assert not (tmp_path / "y").exists()
    finally:
        server.shutdown()


def test_data_that_are_none_are_one_line(place, tmp_path):
    (tmp_path / "empty").mkdir()
    _, err = run("demo", "--data", tmp_path / "empty", "--no-serve", code=1, **place)
    assert str(tmp_path / "empty") in error_line(err)


def test_two_folders_of_one_name_are_two_corpora(tmp_path):
    settings = Settings(store=str(tmp_path / "store"))
    first = write_tiny_images(tmp_path / "a" / "tiny.bin", 20)
    make_corpus(open_store(settings.store), "tiny-bin", first, 20)
    assert demo._corpus_name(settings, str(first)) == "tiny-bin", "it is the same one again"
    assert demo._corpus_name(settings, str(tmp_path / "b" / "tiny.bin")).startswith("tiny-bin-")
