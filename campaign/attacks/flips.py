"""Flips a bit in the JSON files of the store; what is read then is as before, or an error."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign.attack import Outcome
from campaign.place import Place
from conf.errors import TinyTagsError
from ingest.corpus import open_corpus
from storage import layout
from storage.runs import open_run, read_statistics
from tagging.models import load_model, read_card


def attack(place: Place, tries: int) -> Outcome:
    """Lost: another value without an error, or an error with a traceback."""
    outcome = Outcome(progress=place.progress)
    corpus, run_name = place.make_tagged("flips", 2_000, 500)
    store, folder = place.store, place.folder / "store"
    run, model = open_run(store, run_name), f"{corpus}-forest"
    readers: dict[str, Callable[[], Any]] = {
        layout.corpus_manifest(corpus): lambda: open_corpus(store, corpus),
        layout.run_manifest(run_name): lambda: open_run(store, run_name),
        layout.model_card(model): lambda: (read_card(store, model), load_model(store, model).hash),
    }
    for p in range(run.partitions):
        readers[layout.run_statistics(run_name, p)] = lambda p=p: read_statistics(store, run, p)  # type: ignore[misc]
        readers[layout.corpus_statistics(corpus, p)] = lambda p=p: _corpus_statistics(place, corpus, p)  # type: ignore[misc]
    before = {name: read() for name, read in readers.items()}
    lost: dict[str, int] = {}
    # A kind of file is as likely as another, however many of it there are.
    kinds: dict[str, list[str]] = {}
    for name in readers:
        kinds.setdefault("/".join(part for part in name.split("/") if not part[0].isdigit()), []).append(name)
    for _ in range(tries):
        kind = place.random.choice(sorted(kinds))
        name = place.random.choice(kinds[kind])
        path = folder / name
        whole = path.read_bytes()
        _flip(path, whole, place)
        outcome.count()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                changed = readers[name]() != before[name]
        except TinyTagsError:
            changed = False
        except Exception as error:
            changed = True
            outcome.notes.append(f"{kind}: {type(error).__name__} instead of a clear error")
        finally:
            path.write_bytes(whole)
        if changed:
            lost[kind] = lost.get(kind, 0) + 1
    for kind, count in lost.items():
        for _ in range(count):
            outcome.lost(f"{kind}: another value, unseen")
    return outcome


def _corpus_statistics(place: Place, corpus: str, partition: int) -> Any:
    """Return the statistics of a partition of a corpus, with their checksum checked."""
    return place.store.read_json(layout.corpus_statistics(corpus, partition))


def _flip(path: Path, data: bytes, place: Place) -> None:
    """Write ``data`` with one bit of one byte changed."""
    changed = bytearray(data)
    changed[place.random.randrange(len(data))] ^= 1 << place.random.randrange(8)
    path.write_bytes(bytes(changed))
