"""Verification of the features that are kept of a corpus: each file as it was written."""

import hashlib

from indexing.findings import Findings
from ingest.corpus import Corpus
from storage import layout
from storage.lease import lease
from storage.store import DamagedFileError, FileMissingError, Store


def check_features(
    store: Store, corpus: Corpus, folders: list[str], partition: int, findings: Findings
) -> None:
    """Find features of a partition, in these ``folders`` of the corpus, that are missing or changed since they were written."""
    for folder in folders:
        if wrong := _difference(store, corpus, folder, partition):
            findings.add("features", partition, wrong)


def forget_features(store: Store, corpus: Corpus, findings: Findings) -> None:
    """Remove the markers of features that differ, so that they are computed from the images again; the problems are repaired then."""
    partitions = findings.partitions("features")
    for folder in store.list(layout.corpus_features_folder(corpus.name)) if partitions else []:
        wrong = [p for p in partitions if _difference(store, corpus, folder, p)]
        if wrong:
            what = f"features {folder!r} of corpus {corpus.name!r}"
            with lease(store, layout.features_lease(corpus.name, folder), what):
                for p in wrong:
                    store.remove(layout.features_statistics(corpus.name, folder, p))
    for problem in findings.problems:
        problem["mended"] |= problem["kind"] == "features"


def _difference(store: Store, corpus: Corpus, folder: str, partition: int) -> str | None:
    """Return how a partition's features differ from what was written; None where they don't, or there are none."""
    marker = layout.features_statistics(corpus.name, folder, partition)
    codes = layout.features_codes(corpus.name, folder, partition)
    try:
        statistics = store.read_json(marker)
    except FileMissingError:
        return None
    except DamagedFileError as error:
        return str(error)
    if statistics.get("corpus_hash") != corpus.hash:
        return None  # of other images: nothing reads them
    try:
        data = store.read_bytes(codes)
    except FileMissingError as error:
        return str(error)
    if hashlib.sha256(data).hexdigest() == statistics.get("sha256"):
        return None
    return f"{store.url(codes)}: is not as it was written"
