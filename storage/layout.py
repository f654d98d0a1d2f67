"""The layout of a store: every path in it, relative to its root, and the partition in the name of a file."""

from collections.abc import Iterable

CORPORA, MODELS, RUNS, ALIASES = "corpora", "models", "runs", "aliases"
ANNOTATIONS = "annotations"
COMPARISONS = "comparisons"
MANIFEST = "manifest.json"
CARD = "model.json"
# Folders with a file for each partition, in those of corpora, features, runs and annotations.
STATISTICS, FAILED, REJECTED, BAD = "statistics", "failed", "rejected", "bad"


def corpus_folder(name: str) -> str:
    """Return the folder of a corpus."""
    return f"{CORPORA}/{name}"


def corpus_manifest(name: str) -> str:
    """Return the path of the manifest of a corpus: what it was split from and into, written once."""
    return f"{corpus_folder(name)}/{MANIFEST}"


def corpus_images_folder(name: str) -> str:
    """Return the folder with a folder for each partition of a corpus."""
    return f"{corpus_folder(name)}/images"


def corpus_partition_folder(name: str, partition: int) -> str:
    """Return the folder of a partition's images; Parquet readers take the partition's number from its name."""
    return f"{corpus_images_folder(name)}/partition={partition:05d}"


def corpus_images(name: str, partition: int) -> str:
    """Return the path of the Parquet file with the images of a partition."""
    return f"{corpus_partition_folder(name, partition)}/images.parquet"


def corpus_statistics_folder(name: str) -> str:
    """Return the folder that lists the partitions that are split."""
    return statistics_folder(corpus_folder(name))


def corpus_statistics(name: str, partition: int) -> str:
    """Return the path of the statistics of a partition that is split; written last, it marks the partition as done."""
    return statistics(corpus_folder(name), partition)


def corpus_failed_folder(name: str) -> str:
    """Return the folder that lists the partitions that could not be split."""
    return failed_folder(corpus_folder(name))


def corpus_failed(name: str, partition: int) -> str:
    """Return the path of the file with the reason why a partition could not be split."""
    return failed(corpus_folder(name), partition)


def corpus_names(name: str) -> str:
    """Return the path of the index of a corpus' pictures by their names; corpora without names have none."""
    return f"{corpus_folder(name)}/names.bin"


def corpus_bad_folder(name: str) -> str:
    """Return the folder that lists the partitions with records that can't be decoded."""
    return f"{corpus_folder(name)}/{BAD}"


def corpus_bad(name: str, partition: int) -> str:
    """Return the path of the records of a partition that can't be decoded, one JSON line each: row, name and reason."""
    return f"{corpus_bad_folder(name)}/{partition:05d}.jsonl"


def corpus_lease(name: str) -> str:
    """Return the path of the lease of the process that writes a corpus."""
    return f"{corpus_folder(name)}/lease.json"


def corpus_features_folder(name: str) -> str:
    """Return the folder with a folder for each kind of features that are kept of a corpus."""
    return f"{corpus_folder(name)}/features"


def features_folder(corpus: str, features: str) -> str:
    """Return the folder of a corpus' features; ``features`` is their name with the beginning of their hash."""
    return f"{corpus_features_folder(corpus)}/{features}"


def features_manifest(corpus: str, features: str) -> str:
    """Return the path of the manifest of a corpus' features: what they are and what they were fitted to."""
    return f"{features_folder(corpus, features)}/{MANIFEST}"


def features_codes(corpus: str, features: str, partition: int) -> str:
    """Return the path of the features of a partition, an array of numpy's own format."""
    return f"{features_folder(corpus, features)}/codes/{partition:05d}.npy"


def features_hashes(corpus: str, features: str, partition: int) -> str:
    """Return the path of the hashes of a partition's images, an array of numpy's own format: which of them a model was trained on."""
    return f"{features_folder(corpus, features)}/hashes/{partition:05d}.npy"


def features_statistics_folder(corpus: str, features: str) -> str:
    """Return the folder that lists the partitions whose features are kept."""
    return statistics_folder(features_folder(corpus, features))


def features_statistics(corpus: str, features: str, partition: int) -> str:
    """Return the path of the statistics of a partition's features; written last, it marks them as done."""
    return statistics(features_folder(corpus, features), partition)


def features_folders(corpus: str, features: str) -> list[str]:
    """Return the folders in which files of a corpus' features are written."""
    folder = features_folder(corpus, features)
    return [folder, *(f"{folder}/{name}" for name in ("codes", "hashes", STATISTICS, FAILED))]


def features_failed(corpus: str, features: str, partition: int) -> str:
    """Return the path of the file with the reason why a partition's features could not be computed."""
    return failed(features_folder(corpus, features), partition)


def features_lease(corpus: str, features: str) -> str:
    """Return the path of the lease of the process that computes a corpus' features."""
    return f"{features_folder(corpus, features)}/lease.json"


def model_folder(name: str) -> str:
    """Return the folder of a model."""
    return f"{MODELS}/{name}"


def model_card(name: str) -> str:
    """Return the path of the card of a model; written last, it marks the model as complete."""
    return f"{model_folder(name)}/{CARD}"


def model_file(name: str, file: str) -> str:
    """Return the path of a file of a model that only its kind knows, such as ``forest.npz``."""
    return f"{model_folder(name)}/{file}"


def model_trained(name: str) -> str:
    """Return the path of the hashes of the images that a model was trained on."""
    return model_file(name, "trained.npy")


def model_spark(name: str) -> str:
    """Return the folder of a forest as Spark's own trainer writes it."""
    return model_file(name, "spark")


def model_lease(name: str) -> str:
    """Return the path of the lease of the process that writes a model."""
    return f"{model_folder(name)}/lease.json"


def run_folder(name: str) -> str:
    """Return the folder of a run."""
    return f"{RUNS}/{name}"


def run_manifest(name: str) -> str:
    """Return the path of the manifest of a run: corpus, model and threshold with their hashes, written once."""
    return f"{run_folder(name)}/{MANIFEST}"


def run_readme(name: str) -> str:
    """Return the path of the file that says what is in the folder of a run."""
    return f"{run_folder(name)}/README.md"


def run_tags_folder(name: str) -> str:
    """Return the folder of a run's documents."""
    return f"{run_folder(name)}/tags"


def run_tags(name: str, partition: int) -> str:
    """Return the path of the documents of a tagged partition, one JSON line each."""
    return f"{run_tags_folder(name)}/{partition:05d}.jsonl"


def run_statistics_folder(name: str) -> str:
    """Return the folder that lists the partitions that are tagged."""
    return statistics_folder(run_folder(name))


def run_statistics(name: str, partition: int) -> str:
    """Return the path of the statistics of a tagged partition; written last, it marks the partition as done."""
    return statistics(run_folder(name), partition)


def run_failed_folder(name: str) -> str:
    """Return the folder that lists the partitions that could not be tagged."""
    return failed_folder(run_folder(name))


def run_failed(name: str, partition: int) -> str:
    """Return the path of the file with the reason why a partition could not be tagged."""
    return failed(run_folder(name), partition)


def run_rejected(name: str, partition: int) -> str:
    """Return the path of the documents of a partition that Solr rejected, one JSON line each with its reason."""
    return rejected(run_folder(name), partition)


def run_lease(name: str) -> str:
    """Return the path of the lease of the process that tags a run."""
    return f"{run_folder(name)}/lease.json"


def run_index_lease(name: str) -> str:
    """Return the path of the lease of the process that indexes a run."""
    return index_lease(run_folder(name))


def statistics_folder(folder: str) -> str:
    """Return the folder that lists the partitions of ``folder`` that are done."""
    return f"{folder}/{STATISTICS}"


def statistics(folder: str, partition: int) -> str:
    """Return the path of the statistics of a partition; written last, it marks the partition as done."""
    return f"{statistics_folder(folder)}/{partition:05d}.json"


def failed_folder(folder: str) -> str:
    """Return the folder that lists the partitions of ``folder`` that failed."""
    return f"{folder}/{FAILED}"


def failed(folder: str, partition: int) -> str:
    """Return the path of the file with the reason why a partition failed."""
    return f"{failed_folder(folder)}/{partition:05d}.json"


def rejected_folder(folder: str) -> str:
    """Return the folder that lists the partitions of which Solr rejected documents."""
    return f"{folder}/{REJECTED}"


def rejected(folder: str, partition: int) -> str:
    """Return the path of the documents of a partition that Solr rejected, one JSON line each with its reason."""
    return f"{rejected_folder(folder)}/{partition:05d}.jsonl"


def finished(folder: str, step: str) -> str:
    """Return the path of the file that says when a job of a step finished last in ``folder``, and how long it took; for people only."""
    return f"{folder}/{step}-finished.json"


def index_lease(folder: str) -> str:
    """Return the path of the lease of the process that indexes the documents of ``folder``."""
    return f"{folder}/index-lease.json"


def annotations_folder(name: str) -> str:
    """Return the folder of annotations: labels and relations of images."""
    return f"{ANNOTATIONS}/{name}"


def annotations_manifest(name: str) -> str:
    """Return the path of the manifest of annotations: the files that they are read from, written once."""
    return f"{annotations_folder(name)}/{MANIFEST}"


def annotations_classes(name: str) -> str:
    """Return the path of the classes of annotations: their names and their hierarchy."""
    return f"{annotations_folder(name)}/classes.json"


def annotations_counts(name: str) -> str:
    """Return the path of the counts of searches that have many images, of one state of the index; left out where they aren't made yet."""
    return f"{annotations_folder(name)}/counts.json"


def annotations_rows_folder(name: str) -> str:
    """Return the folder of the rows of annotations; its partitions are ranges of bytes of the files."""
    return f"{annotations_folder(name)}/rows"


def annotations_rows(name: str, kind: str, partition: int) -> str:
    """Return the path of the Parquet file with the rows of a range; ``kind`` is labels or relations."""
    return f"{annotations_rows_folder(name)}/{kind}/{partition:05d}.parquet"


def annotations_bad(name: str, partition: int) -> str:
    """Return the path of the rows of a range that can't be read, one JSON line each with its place and the reason."""
    return f"{annotations_rows_folder(name)}/{BAD}/{partition:05d}.jsonl"


def annotations_lease(name: str) -> str:
    """Return the path of the lease of the process that writes annotations."""
    return f"{annotations_folder(name)}/lease.json"


def comparisons(corpus: str) -> str:
    """Return the folder with what `tinytags compare` fitted and measured on a corpus."""
    return f"{COMPARISONS}/{corpus}"


def comparison(corpus: str, key: str) -> str:
    """Return the path of one such result: a classifier, or a fold of a grid; ``key`` is derived from all that decides it."""
    return f"{comparisons(corpus)}/{key}.json"


def alias_lease(alias: str) -> str:
    """Return the path of the lease of the process that moves an alias."""
    return f"{ALIASES}/{alias}/lease.json"


def partitions_in(files: Iterable[str], ending: str = ".json") -> list[int]:
    """Return the sorted partitions in the names of files such as ``00012.json``; other files are left out."""
    numbers = (file.removesuffix(ending) for file in files if file.endswith(ending))
    return sorted(int(number) for number in numbers if number.isdecimal())
