"""Tests of the locale C, which containers have: names of folders, classes and pictures in any script."""

import json
import os

import pytest
from PIL import Image
from small_world import run_process

from ingest.corpus import open_corpus
from ingest.partition import read_names
from jobs.environment import prepare
from storage import layout
from storage.runs import open_run
from storage.store import open_store

CLASSES = ["Äpfel", "猫"]


@pytest.mark.slow
def test_names_of_any_script_pass_all_steps(tmp_path, monkeypatch):
    for name in ("LANG", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE"):
        monkeypatch.delenv(name, raising=False)
    for number, name in enumerate(CLASSES):
        folder = tmp_path / "Bilder ß" / name
        folder.mkdir(parents=True)
        for picture in range(10):
            Image.new("RGB", (32, 32), (200 * number, 20 * picture, 90)).save(folder / f"größe {picture}.png")
    at = tmp_path / "Läger 倉庫"
    settings = {"LC_ALL": "C", "TINYTAGS_STORE": str(at), "TINYTAGS_SOLR": "http://127.0.0.1:1/solr"}
    run_process("ingest", tmp_path / "Bilder ß", "--corpus", "c", "--partition-images", 8, **settings)
    words = ["--corpus", "c", "--model", "m"]
    run_process("train", *words, "--engine", "scikit-learn", "--trees", 2, "--depth", 1, **settings)
    out, _ = run_process("tag", *words, "--min-confidence", 0, "--json", **settings)
    name = json.loads(out)["run"]
    out, _ = run_process("status", **settings)
    assert f"store {at}\n" in out
    assert set(os.listdir(tmp_path)) == {"Bilder ß", at.name}
    store = open_store(str(at))
    corpus = open_corpus(store, "c")
    assert corpus.classes == CLASSES == open_run(store, name).classes
    assert read_names(store, corpus, 0) == [f"Äpfel/größe {picture}.png" for picture in range(8)]
    lines = b"".join(store.read_bytes(layout.run_tags(name, p)) for p in range(3)).splitlines()
    assert {json.loads(line)["tag"] for line in lines} == set(CLASSES)
    assert json.loads(lines[-1])["name"] == "猫/größe 9.png"


def test_java_is_started_with_a_locale_in_which_it_can_open_any_path(monkeypatch):
    """With LC_ALL=C MLlib can't write its forest below a folder named Läger."""
    for given, used in (("C", "C.UTF-8"), ("POSIX", "C.UTF-8"), ("de_DE.UTF-8", "de_DE.UTF-8")):
        monkeypatch.setenv("LC_ALL", given)
        prepare()
        assert os.environ["LC_ALL"] == used
