"""Tests of the command: that its help teaches, its errors are one line each, and its verbs lead from a dump to a page."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3
from small_world import (
    CLASSES,
    TINYTAGS,
    clean_environment,
    contents,
    error_line,
    finish,
    make_corpus,
    run,
    run_json,
    start,
    wait_until,
    write_cifar,
    write_tiny_images,
)

import tinytags
from indexing.solr import Solr
from operations.services import free_port, get_json
from storage import layout, runs
from storage.store import open_store

NO_SOLR = "http://127.0.0.1:1/solr"
VERBS = {name: tinytags.command.get_command(None, name) for name in tinytags.ORDER}


# Help


def test_every_verb_is_listed_in_the_order_in_which_one_needs_it():
    assert set(tinytags.ORDER) == set(tinytags.ELSEWHERE) | set(tinytags.command.commands)
    out, _ = run("--help")
    places = [out.index(f"\n  {name} ") for name in tinytags.ORDER]
    assert places == sorted(places)
    assert "Exit codes: 0 done; 1 a clear error" in out


@pytest.mark.parametrize("verb", tinytags.ORDER)
def test_the_help_of_a_verb_explains_it_and_each_of_its_options(verb):
    command = VERBS[verb]
    assert len(command.help.splitlines()[0]) > 20
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help and len(parameter.help) > 10, f"{verb} {parameter.opts[0]}"
            assert parameter.help.rstrip()[-1] in ".]", f"{verb} {parameter.opts[0]}: {parameter.help}"
    if verb in tinytags.ELSEWHERE:
        assert command.name == verb
        assert tinytags.ELSEWHERE[verb][1] == command.help.splitlines()[0].replace("DUMP", "a dump")
    out, _ = run(verb, "--help")
    assert out.startswith(f"Usage: tinytags {verb} ")


def test_the_version_is_printed():
    assert run("--version")[0].startswith("tinytags, version ")


# Start-up


def modules_of(*words) -> set[str]:
    """Return the modules that are imported when a command has done its work, and check that it was quick."""
    code = "import resource, sys, tinytags\ntry:\n tinytags.main(sys.argv[1:])\nexcept SystemExit as ended:\n"
    code += " seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime\n"
    code += " print('MODULES', ended.code, seconds, *sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=True,
    )
    code, seconds, *modules = ended.stdout.rpartition("MODULES")[2].split()
    assert code == "0", ended.stderr
    assert float(seconds) < 1  # twice what it takes, for another worker shares the cores
    return set(modules)


def test_what_needs_no_spark_starts_without_it_and_at_once(tmp_path, solr):
    store = open_store(str(tmp_path / "store"))
    run_of(store)
    heavy = {"pyspark", "numba", "sklearn", "flask"}
    assert not modules_of("--help") & (heavy | {"numpy", "pyarrow", "urllib3", "hdfs"})
    assert not modules_of("status", "--store", tmp_path / "empty", "--solr", NO_SOLR) & heavy
    assert not modules_of("status", "--store", store.url(), "--solr", solr.url) & heavy
    words = ["index", runs.list_runs(store)[0], "--dry-run", "--store", store.url(), "--solr", solr.url]
    assert not modules_of(*words) & heavy


def run_of(store) -> runs.Run:
    """Write a run of one partition with nothing in it."""
    made = runs.Run("c", "c" * 64, "m", "m" * 64, 0.4, CLASSES, images=10, partitions=1, trees=10)
    runs.create_run(store, made)
    store.write_bytes(layout.run_tags(made.name, 0), b"")
    statistics = {"partition": 0, "images": 10, "tagged": 0, "dropped": 10, "bad": 0, "bytes": 0}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    store.write_json(layout.run_statistics(made.name, 0), statistics | {"sha256": empty})
    return made


# Settings


def test_an_option_wins_over_the_environment_over_the_file_over_the_default(tmp_path):
    def store(*words, **environment) -> str:
        out, _ = run(*words, "--solr", NO_SOLR, cwd=tmp_path, **environment)
        return out.splitlines()[0].removeprefix(f"store {tmp_path}/")

    assert store("status") == "data"
    (tmp_path / "tinytags.toml").write_text('store = "of-the-file"\n')
    assert store("status") == "of-the-file"
    assert store("status", TINYTAGS_STORE="of-the-environment") == "of-the-environment"
    assert store("--store", "before", "status", TINYTAGS_STORE="of-the-environment") == "before"
    assert store("--store", "before", "status", "--store", "of-the-verb") == "of-the-verb"
    assert not (tmp_path / "data").exists(), "status never writes"


# Errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the bad inputs lie."""
    folder = tmp_path_factory.mktemp("bad")
    write_tiny_images(folder / "tiny_images.bin", 10)
    (folder / "labels.bin").unlink()  # or each command notes that it is not used
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"x")
    (folder / "broken").mkdir()
    (folder / "broken" / "tinytags.toml").write_text("store =")
    make_corpus(open_store(str(folder / "data")), "plain", folder / "tiny_images.bin", 5)
    return folder


LONG = "x" * 300
BAD = [
    ([], 2, "Usage: tinytags"),
    (["fly"], 2, "No such command 'fly'; there are demo, ingest, features, train, tag, index,"),
    (["status", "--colour"], 2, "No such option"),
    (["ingest"], 2, "Missing argument 'DUMP'"),
    (["ingest", "tiny_images.bin"], 2, "Missing option '--corpus'"),
    (["ingest", "nowhere", "--corpus", "c"], 1, "/nowhere: no such file or folder"),
    (["ingest", "tiny_images.bin", "--corpus", "../c"], 1, "corpus name '../c' is not valid"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--format", "gif"], 1, "format 'gif' is unknown"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--format", "mnist"], 1, "is not mnist: it looks like tiny-images"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--partition-images", "0"], 2, "--partition-images"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--partition", "9"], 1, "corpus 'c' has no partition 9; it has 0 to 0"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--partition", "x"], 2, "'x' is neither a partition like 12"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--labels", "nowhere"], 1, "/nowhere: no such file"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--labels", "file"], 1, "labels are one byte a record"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--classes", "a,b"], 1, "classes are given, but no labels"),
    (["ingest", "tiny_images.bin", "--corpus", "plain"], 1, "exists already, with other contents"),
    (["ingest", "empty", "--corpus", "c"], 1, "/empty: is a folder without pictures"),
    (["ingest", "file", "--corpus", "c"], 1, "in no known format"),
    (["ingest", "", "--corpus", "c"], 1, "path ''"),
    (["ingest", "gopher://bucket/x", "--corpus", "c"], 1, "scheme gopher:// is unknown"),
    (["ingest", "hdfs:///x", "--corpus", "c"], 1, "hdfs:///x"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--store", "s3://b/x"], 1, "no store has URLs of s3://"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--store", "file"], 1, "/file/corpora/c/"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--store", "/proc/nowhere"], 1, "/proc/nowhere/corpora/c/"),
    (["ingest", "tiny_images.bin", "--corpus", "c", "--store", LONG], 1, "File name too long"),
    (["train", "--corpus", "plain", "--model", "m"], 1, "corpus 'plain' has no labels to learn from"),
    (["train", "--corpus", "plain", "--model", "m/x"], 1, "model name 'm/x' is not valid"),
    (["train", "--corpus", "plain", "--model", "m", "--trees", "0"], 2, "--trees"),
    (["train", "--corpus", "plain", "--model", "m", "--seed", "-1"], 2, "--seed"),
    (["train", "--corpus", "plain", "--model", "m", "--holdout", "1"], 2, "--holdout"),
    (["train", "--corpus", "plain", "--model", "m", "--engine", "torch"], 2, "--engine"),
    (["tag", "--corpus", "plain", "--model", "m"], 1, "no model 'm' in "),
    (["tag", "--corpus", "nowhere", "--model", "m"], 1, "no corpus 'nowhere' in "),
    (["tag", "--corpus", "plain", "--model", "m", "--min-confidence", "1.1"], 2, "--min-confidence"),
    (["tag", "--corpus", "plain", "--model", "m", "--min-confidence", "nan"], 2, "--min-confidence"),
    (["tag", "--corpus", "plain", "--model", "m", "--min-confidence", "40"], 2, "; 40 % is 0.4."),
    (["evaluate", "--corpus", "plain", "--model", "m"], 1, "no model 'm' in "),
    (["index", "r"], 1, "no run 'r' in "),
    (["index", "../r"], 1, "run name '../r' is not valid"),
    (["index", "r", "--shards", "0"], 2, "--shards"),
    (["publish", "r"], 1, "no run 'r' in "),
    (["retire", "r"], 1, f"Solr at {NO_SOLR} does not answer"),
    (["verify", "r"], 1, "no run 'r' in "),
    (["status", "--store", "file"], 1, "/file/corpora: Not a directory"),
    (["status", "--store", LONG], 1, "File name too long"),
    (["status", "--solr", "nonsense"], 1, "setting solr is 'nonsense'; write http://HOST:PORT"),
    (["demo", "--data", "nowhere", "--no-serve"], 1, "/nowhere: no such file or folder"),
    (["demo", "--data", "file", "--no-serve"], 1, "in no known format"),
    (["serve", "--port", "70000"], 2, "--port"),
    (["serve", "--host", "nowhere.invalid"], 1, "can't listen on nowhere.invalid:8000"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "output"), BAD, ids=[" ".join(words)[:60] for words, _, _ in BAD])
def test_what_cannot_be_done_is_reported_in_one_line(folder, words, code, output):
    out, err = run(*words, code=code, cwd=folder, TINYTAGS_SOLR=NO_SOLR)
    assert out == ""
    assert output in err
    if words:
        assert output in error_line(err)
    if code == 1:
        assert len(err.splitlines()) == 1
    assert not (folder / "data" / "corpora" / "c" / "manifest.json").exists()


def test_a_settings_file_that_is_broken_is_named(folder):
    _, err = run("status", code=1, cwd=folder / "broken")
    assert err.startswith("tinytags: tinytags.toml: ")
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken_is_reported_by_serve(folder, solr):
    port = solr.url.split(":")[2].split("/")[0]
    _, err = run("serve", "--port", port, cwd=folder, code=1)
    assert error_line(err).startswith(f"tinytags: can't listen on 127.0.0.1:{port}: ")


def test_a_reader_that_goes_away_is_no_traceback(folder):
    command = f"{TINYTAGS} status | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=folder, stderr=subprocess.PIPE, text=True, env=clean_environment(TINYTAGS_SOLR=NO_SOLR),
        check=False,
    )  # fmt: skip
    assert ended.returncode in (0, 1)
    assert ended.stderr == ""


# The whole way


@pytest.fixture(scope="module")
def way(tmp_path_factory, solr):
    """From two dumps to a run in Solr, each step by the command; what each printed, and the words of its settings."""
    folder = tmp_path_factory.mktemp("way")
    cifar = write_cifar(folder / "cifar", 2000, 400)
    tiny = write_tiny_images(folder / "tiny_images.bin", 3000)
    settings = {
        "TINYTAGS_STORE": str(folder / "store"),
        "TINYTAGS_SOLR": solr.url,
        "TINYTAGS_ALIAS": "the-whole-way",
    }
    output = {"folder": folder, "settings": settings}
    output["labelled"] = run_json(
        "ingest", cifar, "--corpus", "cifar", "--partition-images", 1000, **settings
    )
    output["train"] = run_json(
        "train",
        "--corpus",
        "cifar",
        "--model",
        "forest",
        "--engine",
        "scikit-learn",
        "--depth",
        6,
        **settings,
    )
    output["ingest"] = run_json(
        "ingest",
        tiny,
        "--corpus",
        "tiny",
        "--partition-images",
        700,
        "--labels",
        folder / "labels.bin",
        **settings,
    )
    output["tag"] = run_json("tag", "--corpus", "tiny", "--model", "forest", **settings)
    output["foreseen"] = run_json("index", output["tag"]["run"], "--dry-run", **settings)
    output["index"] = run_json("index", output["tag"]["run"], **settings)
    output["verify"] = run_json("verify", output["tag"]["run"], **settings)
    yield output
    client = Solr(solr.url, patience=60)
    client.delete_alias("the-whole-way")
    client.delete(output["tag"]["run"])


@pytest.mark.services
def test_each_step_reports_what_it_did(way):
    assert (way["labelled"]["format"], way["labelled"]["images"], way["labelled"]["split"]) == (
        "cifar-10",
        2400,
        3,
    )
    assert way["train"]["measured_on"]["images"] == 400
    assert (way["ingest"]["format"], way["ingest"]["partitions"]) == ("tiny-images", 5)
    tagged = way["tag"]
    assert tagged["images"] == tagged["tagged"] + tagged["dropped"] == 3000
    assert tagged["labelled"] == tagged["tagged"], "all of the dump's labels are known"
    assert 0.5 < tagged["right"] / tagged["labelled"] < 1
    assert (way["foreseen"]["documents"], way["foreseen"]["dry_run"]) == (tagged["tagged"], True)
    assert (way["index"]["documents"], way["index"]["published"]) == (tagged["tagged"], True)
    assert (way["index"]["complete"], way["index"]["rejected"]) == (True, 0)
    assert way["verify"]["ok"] and way["verify"]["problems"] == []
    assert way["verify"]["documents"] == tagged["tagged"]


@pytest.mark.services
def test_status_shows_the_whole_way_and_writes_nothing(way):
    before = contents(way["folder"], volatile=())
    status = run_json("status", **way["settings"])
    (of_run,) = status["runs"]
    assert of_run["run"] == way["tag"]["run"] and of_run["published"] is True
    assert of_run["tag"] == {"pending": 0, "done": 5, "failed": 0}
    assert of_run["index"] == {
        "pending": 0, "done": 5, "failed": 0, "documents": way["tag"]["tagged"], "rejected": 0
    }  # fmt: skip
    assert [corpus["corpus"] for corpus in status["corpora"]] == ["cifar", "tiny"]
    assert status["models"][0]["accuracy"] == way["train"]["quality"]["accuracy"]
    finished = {
        job["step"]: job
        for state in (status["corpora"][1], *status["models"], of_run)
        for job in state["finished"]
    }
    assert {step: (job["count"], job["seconds"]) for step, job in finished.items()} == {
        "ingest": (3000, way["ingest"]["seconds"]),
        "train": (way["train"]["trained_on"]["images"], way["train"]["seconds"]["all"]),
        "tag": (3000, way["tag"]["seconds"]),
        "index": (way["index"]["documents"], way["index"]["seconds"]),
    }
    assert finished["tag"]["per_second"] == way["tag"]["images_per_second"]
    out, _ = run("status", **way["settings"])
    assert re.search(
        rf"run {way['tag']['run']}: tag 5 of 5 partitions done \(20..-..-.. ..:.. UTC: 3,000 images in .* s, [\d,]+ images/s\); "
        r"index 5 of 5 partitions done, ",
        out,
    )
    assert "published as the-whole-way" in out
    assert contents(way["folder"], volatile=()) == before


@pytest.mark.services
def test_the_page_shows_what_was_tagged(way):
    port = free_port()
    process = start("serve", "--port", port, cwd=way["folder"], **way["settings"])
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: get_json(f"{address}/api/search"), process)
        answer = get_json(f"{address}/api/search")
        assert answer["total"] == way["tag"]["tagged"]
        assert answer["collections"] == [way["tag"]["run"]]
        counts = {tag["tag"]: tag["count"] for tag in answer["tags"]}
        assert sum(counts.values()) == answer["total"]
        page = urllib3.request("GET", f"{address}/")
        assert page.status == 200
        assert f"{answer['total']:,}" in page.data.decode()
        picture = urllib3.request("GET", f"{address}/images/tiny/4/7.png")
        assert picture.status == 200 and picture.data.startswith(b"\x89PNG")
        assert urllib3.request("GET", f"{address}/readyz").status == 200
    finally:
        process.terminate()
        finish(process)


@pytest.mark.services
def test_verify_names_every_damage_and_repair_mends_it(way, tmp_path, solr):
    """A tags file gone, a byte of Parquet flipped, documents gone from Solr: each in a partition of its own."""
    store = open_store(way["settings"]["TINYTAGS_STORE"])
    run_name, settings = way["tag"]["run"], way["settings"]
    before = contents(Path(store.url()))
    store.remove(layout.run_tags(run_name, 0))
    spoilt = Path(store.url(layout.corpus_images("tiny", 1)))
    data = bytearray(spoilt.read_bytes())
    data[len(data) // 2] ^= 1
    spoilt.write_bytes(data)
    update = f"{solr.url}/{run_name}/update?commit=true"
    body = json.dumps({"delete": {"query": "partition:2 AND tag:frog"}})
    answer = urllib3.request(
        "POST", update, body=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert answer.status == 200

    out, err = run("verify", run_name, code=1, **settings)
    assert error_line(err) == (
        f"tinytags: run {run_name} differs in 3 places; `tinytags verify {run_name} --repair` repairs what can be repaired"
    )
    output = out.splitlines()
    assert len(output) == 4
    assert any("tags/00000.jsonl" in line and "is missing" in line for line in output)
    assert any(str(spoilt) in line and "is corrupt" in line for line in output)
    assert any("missing from the index" in line for line in output)
    assert run_json("verify", run_name, code=1, **settings)["ok"] is False

    mended = run_json("verify", run_name, "--repair", **settings)
    assert {problem["kind"] for problem in mended["problems"]} == {"tags", "images", "index"}
    assert all(problem["mended"] for problem in mended["problems"])
    assert run_json("verify", run_name, **settings)["problems"] == []
    assert contents(Path(store.url())) == before
    assert run("verify", run_name, **settings)[0] == f"run {run_name}: no differences\n"


@pytest.mark.services
def test_documents_that_solr_refuses_are_kept_and_the_exit_code_is_3(tmp_path, solr):
    store = open_store(str(tmp_path / "store"))
    made = run_of(store)
    document = {
        "id": f"{made.prefix}:0:1",
        "corpus": "c",
        "partition": 0,
        "row": 1,
        "tag": "cat",
        "colour": "green",
    }
    good = document | {"id": f"{made.prefix}:0:2", "row": 2}
    del good["colour"]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in (document, good))
    store.write_bytes(layout.run_tags(made.name, 0), data)
    statistics = store.read_json(layout.run_statistics(made.name, 0))
    statistics |= {"tagged": 2, "dropped": 8, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    store.write_json(layout.run_statistics(made.name, 0), statistics)
    words = ["index", made.name, "--no-publish", "--store", store.url(), "--solr", solr.url]
    try:
        out, err = run(*words, code=3)
        assert "1 document in" in out and "1 rejected" in out
        assert error_line(err) == (
            f"tinytags: Solr rejected 1 document: see {store.url(f'runs/{made.name}/rejected')}"
        )
        assert run_json(*words, code=3)["rejected"] == 1, "and again, as nothing has changed"
    finally:
        Solr(solr.url, patience=60).delete(made.name)


@pytest.mark.spark
def test_a_space_in_a_path_is_no_trouble(tmp_path):
    folder = tmp_path / "a folder, mine"
    dump = write_tiny_images(folder / "tiny images.bin", 30)
    run("ingest", dump.name, "--corpus", "c", "--store", "the store", cwd=folder)
    make_corpus(open_store(str(tmp_path / "expected")), "c", dump, 20_000)
    assert contents(folder / "the store") == contents(tmp_path / "expected")
