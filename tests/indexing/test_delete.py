"""Tests of `operations.delete`: nothing that something refers to goes without --force."""

from pathlib import Path

import pytest
from small_runs import ALIAS, make_corpus, make_run
from small_world import error_line, run

from conf.errors import LeaseHeldError, TinyTagsError
from conf.settings import Settings
from indexing.index import index_run
from operations.delete import delete
from storage import layout
from storage.lease import lease
from storage.store import StoreError, open_store

NO_SOLR = "http://127.0.0.1:1/solr"


@pytest.fixture
def place(tmp_path):
    store = open_store(str(tmp_path / "store"))
    corpus = make_corpus(store)
    made = make_run(store, corpus=corpus.name, corpus_hash=corpus.hash, partitions=1)
    store.write_json(layout.model_card(made.model), {"name": made.model})
    return store, corpus.name, made, Settings(store=store.root, solr=NO_SOLR, alias=ALIAS)


def test_a_corpus_and_a_model_stay_while_a_run_refers_to_them(place):
    store, corpus, made, settings = place
    for kind, name in (("corpus", corpus), ("model", made.model)):
        with pytest.raises(TinyTagsError, match=made.name):
            delete(settings, kind, name)
        assert store.list(f"{kind}s" if kind == "model" else layout.CORPORA) == [name]
        assert delete(settings, kind, name, force=True)["refer"] == [made.name]
        with pytest.raises(TinyTagsError, match=f"no {kind} {name!r}"):
            delete(settings, kind, name)
    assert store.list(layout.CORPORA) == store.list(layout.MODELS) == []


def test_models_that_were_trained_on_a_corpus_are_named_and_stay(place):
    store, corpus, made, settings = place
    delete(settings, "model", made.model, force=True)
    for name, trained_on in (("here", corpus), ("there", "other"), ("imported", None)):
        store.write_json(
            layout.model_card(name), {"name": name, "trained_on": trained_on and {"corpus": trained_on}}
        )
    with pytest.raises(
        TinyTagsError,
        match=rf"{made.name}; here was trained on it, and stays usable, but can't be trained or",
    ):
        delete(settings, "corpus", corpus)
    store.remove_tree(layout.run_folder(made.name))
    deleted = delete(settings, "corpus", corpus)
    assert (deleted["refer"], deleted["models"]) == ([], ["here"])


def test_a_corpus_stays_where_a_run_can_not_be_read(place):
    store, corpus, made, settings = place
    manifest = Path(store.root, layout.run_manifest(made.name))
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(StoreError):
        delete(settings, "corpus", corpus)
    assert store.list(layout.CORPORA) == [corpus]


def test_one_that_is_being_written_stays(place):
    store, corpus, _, settings = place
    with lease(store, layout.corpus_lease(corpus), "it"), pytest.raises(LeaseHeldError):
        delete(settings, "corpus", corpus, force=True)
    assert store.exists(layout.corpus_manifest(corpus))


@pytest.mark.slow
def test_without_solr_a_run_goes_only_by_force(place):
    store, _, made, _ = place
    words = ["delete", "run", made.name, "--store", store.root, "--solr", NO_SOLR]
    assert "is not known" in error_line(run(*words, code=1)[1])
    store.remove(layout.run_manifest(made.name))  # as where it was deleted in part
    out = run(*words, "--force")[0]
    assert out.startswith(f"run {made.name} is deleted from the store, and may still be in Solr (")
    assert f"`tinytags retire {made.name}`" in out
    assert store.list(layout.RUNS) == []


@pytest.mark.services
def test_a_published_run_goes_only_by_force_and_from_solr_too(client, tmp_path):
    store = open_store(str(tmp_path / "own"))
    made = make_run(store, partitions=1)
    settings = Settings(store=store.root, solr=client.url, alias=ALIAS)
    index_run(store, made.name, client, ALIAS)
    with pytest.raises(TinyTagsError, match=f"shown by alias {ALIAS}"):
        delete(settings, "run", made.name)
    assert store.exists(layout.run_manifest(made.name)) and client.alias(ALIAS) == [made.name]
    assert delete(settings, "run", made.name, force=True)["refer"] == [ALIAS]
    assert (store.list(layout.RUNS), client.alias(ALIAS), client.exists(made.name)) == ([], [], False)
