"""Two models that were really trained and measured, for the pages that show what their cards say."""

import shutil
from types import SimpleNamespace

from small_world import make_corpus, write_tiny_images

from conf.settings import Settings
from jobs.train_forest import train_forest
from storage.store import open_store


def train_models(store, folder) -> SimpleNamespace:
    """Train "trained" and "deep" as `tinytags train --engine scikit-learn` does, in a store of their own, and copy them
    into ``store``; return where they were trained: store and corpus."""
    apart = open_store(str(folder / "learnt"))
    dump = write_tiny_images(folder / "learnt.bin", 1500)
    corpus = make_corpus(apart, "learnt", dump, 500, labels=str(folder / "labels.bin"))
    settings = Settings(store=apart.root)
    train_forest(settings, "learnt", "trained", trees=10, depth=4, engine="scikit-learn")
    train_forest(settings, "learnt", "deep", trees=25, depth=7, seed=1, engine="scikit-learn")
    shutil.copytree(apart.url("models"), store.url("models"), dirs_exist_ok=True)
    return SimpleNamespace(store=apart, corpus=corpus)
