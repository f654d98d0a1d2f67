"""Labels in a CSV file, of images in a store, as corrections by one person; what can't be used is listed and stops nothing else."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from conf.errors import TinyTagsError
from conf.spreadsheets import unguarded
from ingest.corpus import Corpus, open_corpus
from records.corrections import BadCorrectionError, Correction, Corrections, Label, check_name, check_words
from storage.runs import Run, list_runs, open_run
from storage.store import Store, StoreUnavailableError

# What is stored at once.
CHUNK = 500
# A row may name its image by one of these columns, or by corpus, partition and row; the label is in the first of the others.
IMAGE, PLACE, LABEL = ("image", "id"), ("corpus", "partition", "row"), ("people_label", "label")
_HEADER = "its first line has to name the columns image and label; image is CORPUS/PARTITION/ROW or the id of a document"


class BadFileError(BadCorrectionError):
    """A file that isn't a CSV file of images and labels; ``line`` is where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Imported:
    """The result of an import: rows with a label, those that can't be used, with line number and reason, and what was added."""

    rows: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)
    added: list[Correction] = field(default_factory=list)

    @property
    def good(self) -> int:
        return self.rows - len(self.bad)


def import_labels(
    lines: Iterable[str], store: Store, corrections: Corrections, by: str, dry_run: bool = False
) -> Imported:
    """Store the labels of a CSV file as corrections ``by`` a person; with ``dry_run`` only check them.

    ``lines`` are decoded from UTF-8 with U+FFFD for what isn't: such a row can't be used.
    Rows without a label are left out, so that the exports of a search, filled in, can be imported. Of several rows of one
    image the last one counts. A label that is the image's newest, by the same person, is not stored again, so that the
    same file can be imported again after it was interrupted. Raises `BadFileError` for a file without the columns, `BadCorrectionError` for a
    name that is none, `DatabaseError`, and `StoreUnavailableError`.
    """
    by = check_name("the name", by)
    done = Imported()
    labels = _read(lines, Images(store, corrections), by, done)
    while chunk := list(islice(labels, CHUNK)):
        if not dry_run:
            done.added += corrections.add_many(chunk, by)
    return done


def _read(lines: Iterable[str], images: "Images", by: str, done: Imported) -> Iterator[Label]:
    reader = csv.DictReader(lines, restval="")
    try:
        names = reader.fieldnames or []
        label_column = next((name for name in LABEL if name in names), None)
        image_column = next((name for name in IMAGE if name in names), None)
        if label_column is None or (image_column is None and not set(PLACE) <= set(names)):
            raise BadFileError(
                f"the file has the columns {', '.join(names)[:200] or 'of no line'}; {_HEADER}", 1
            )
        for row in reader:
            text = unguarded(row[label_column].strip(" \t\r\n"))
            if not text:
                continue
            done.rows += 1
            try:
                place = row[image_column].strip() if image_column else "/".join(row[name] for name in PLACE)
                corpus, partition, number = images.find(place)
                if "\N{REPLACEMENT CHARACTER}" in text:
                    raise BadCorrectionError(f"label {text[:80]!r} is not in UTF-8")
                images.check_label(corpus, text)
                yield Label(corpus, partition, number, check_words(text, by)[0])
            except StoreUnavailableError:
                raise
            except TinyTagsError as error:
                done.bad.append((reader.line_num, str(error)))
    except csv.Error as error:
        line = reader.line_num + 1
        raise BadFileError(f"line {line}: {error}; is it a CSV file?", line) from None


class Images:
    """The images of a store by the names that exports have for them."""

    def __init__(self, store: Store, corrections: Corrections) -> None:
        self._store, self._corrections = store, corrections
        self._corpora: dict[str, Corpus | TinyTagsError] = {}

    def find(self, name: str) -> tuple[Corpus, int, int]:
        """Return corpus, partition and row of an image, of ``CORPUS/PARTITION/ROW`` or the id of a document.

        Raises `TinyTagsError` where there is no such image.
        """
        place = name.split("/") if "/" in name else name.split(":")
        if len(place) != 3 or not all(
            part.isascii() and part.isdecimal() and len(part) < 10 for part in place[1:]
        ):
            raise BadCorrectionError(
                f"image {name[:80]!r} is not CORPUS/PARTITION/ROW or the id of a document"
            )
        partition, row = map(int, place[1:])
        corpus = self._corpus(place[0]) if "/" in name else self._tagged(place[0])
        first, last = corpus.rows(partition)
        if row >= last - first:
            raise BadCorrectionError(
                f"partition {partition} of corpus {corpus.name!r} has no row {row}; it has 0 to {last - first - 1}"
            )
        return corpus, partition, row

    def check_label(self, corpus: Corpus, label: str) -> None:
        """Raise `BadCorrectionError` for a label that is no class of a corpus or of a run of it, and that no person gave an image of it.

        Without classes any is valid.
        """
        known = {*(corpus.classes or ()), *self._classes.get(corpus.hash, ())}
        if known and label not in known and (corpus.hash, label) not in self._given:
            raise BadCorrectionError(f"label {label[:80]!r} is not a class of corpus {corpus.name!r}")

    def _tagged(self, prefix: str) -> Corpus:
        run = self._runs.get(prefix)
        if run is None:
            raise BadCorrectionError(
                f"no run in the store has documents whose ids begin with {prefix[:80]!r}"
            )
        corpus = self._corpus(run.corpus)
        if corpus.hash != run.corpus_hash:
            raise BadCorrectionError(f"corpus {corpus.name!r} is not the one that run {run.name!r} tagged")
        return corpus

    def _corpus(self, name: str) -> Corpus:
        if name not in self._corpora:
            try:
                self._corpora[name] = open_corpus(self._store, name)
            except StoreUnavailableError:
                raise
            except TinyTagsError as error:
                self._corpora[name] = error
        corpus = self._corpora[name]
        if isinstance(corpus, TinyTagsError):
            raise corpus
        return corpus

    @cached_property
    def _runs(self) -> dict[str, Run]:
        """The runs of the store, by how the ids of their documents begin."""
        runs = {}
        for name in list_runs(self._store):
            try:
                runs[name[-8:]] = open_run(self._store, name)
            except StoreUnavailableError:
                raise
            except TinyTagsError:  # damaged; only its own documents can't be named
                continue
        return runs

    @cached_property
    def _given(self) -> set[tuple[str, str]]:
        """The labels given before, each with the hash of its corpus."""
        return {(one.corpus_hash, one.label) for one in self._corrections.newest()}

    @cached_property
    def _classes(self) -> dict[str, set[str]]:
        """The classes of runs by the hash of their corpus."""
        classes: dict[str, set[str]] = {}
        for run in self._runs.values():
            classes.setdefault(run.corpus_hash, set()).update(run.classes)
        return classes
