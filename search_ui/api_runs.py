"""The JSON response about corpora and runs as types, like those of `search_ui.api`."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from search_ui.schemas import Count, Percent, Positive, Share, Time


class States(TypedDict):
    pending: Count
    done: Count
    failed: Count


class IndexStates(States):
    documents: Count
    rejected: Count


class Writer(TypedDict):
    """Who writes; only the time where the setting ``details`` is no."""

    user: str | None
    host: str | None
    pid: Count | None
    since: Time


class Working(Writer):
    """A job that writes now; its rate and the time left are null until they are known."""

    step: Literal["ingest", "features", "train", "tag", "index", "annotations"]
    unit: str
    per_second: Positive | None
    seconds_left: Positive | None
    waiting: NotRequired[Count]


class Finished(TypedDict):
    """The last job of a step: when it ended, what it did itself, how long it took, and its rate while it worked."""

    step: Literal["ingest", "features", "train", "tag", "index", "annotations"]
    ended: Time
    count: Count
    unit: str
    seconds: Positive
    per_second: Positive | None


class Problem(TypedDict):
    step: str
    partition: Count
    error: str


class Progress(TypedDict):
    images: Count
    partitions: Count
    writer: Writer | None
    problems: list[Problem]
    redo: list[str]
    working: list[Working]
    finished: list[Finished]


class BrokenCorpus(TypedDict):
    corpus: str
    error: str


class FeaturesState(TypedDict):
    """Features that are kept of a corpus; ``length`` is that of an image's, in bytes."""

    name: str
    folder: str
    length: Count | None
    features: States
    problems: list[Problem]
    redo: list[str]
    finished: list[Finished]


class BrokenFeatures(TypedDict):
    folder: str
    error: str


class CorpusState(Progress):
    corpus: str
    format: str
    classes: list[str] | None
    hash: str
    ingest: States
    features: list[FeaturesState | BrokenFeatures]
    bad: Count  # records that can't be decoded, among the images
    bad_first: str | None


class BrokenRun(TypedDict):
    run: str
    error: str


class RunState(Progress):
    run: str
    corpus: str
    model: str
    model_hash: str
    trees: Count | None
    min_confidence: Share
    min_precision: Share | None
    similar: bool
    redo_index: str | None  # of ``redo`` the command that indexes again
    tag: States
    index: IndexStates | None
    published: bool
    statistics_read: NotRequired[Count]


class ConfidenceCount(TypedDict):
    percent: Percent
    images: Count


class RunTotals(TypedDict):
    """Sums over the partitions whose statistics are read. ``confidence`` has the dropped images of a forest, too.

    ``labelled`` and ``right`` are without the ``trained`` images, which the model was trained on; ``seconds`` are of one process.
    """

    partitions: Count
    partitions_read: Count
    images: Count
    tagged: Count
    dropped: Count
    bad: Count
    labelled: Count
    right: Count
    trained: Count
    tags: dict[str, Count]
    confidence: list[ConfidenceCount]
    seconds: Positive
    images_per_second: Positive | None
    first: Time | None
    last: Time | None


class RunDetails(TypedDict):
    """A run. ``versions`` are those of the packages that its model was made with."""

    run: str
    url: str
    created: Time | None
    classes: list[str]
    state: RunState
    totals: RunTotals | None
    versions: dict[str, str]


class Training(TypedDict):
    """A training that the page started; ``lines`` are the last ones that it printed, ``run`` is there once it has succeeded."""

    corpus: str
    by: str
    started: Time
    running: bool
    stopped: bool
    seconds: Positive | None
    lines: list[str]
    model: str | None
    run: str | None


class BrokenAnnotations(TypedDict):
    annotations: str
    error: str


class AnnotationsState(TypedDict):
    annotations: str
    hash: str
    ranges: Count
    partitions: Count
    rows: States
    documents: States
    collections: dict[str, str]
    writer: Writer | None
    problems: list[Problem]
    redo: list[str]
    working: list[Working]
    finished: list[Finished]
    published: bool
    index: dict[str, IndexStates | None]


class BrokenModel(TypedDict):
    model: str
    error: str


class ModelState(TypedDict):
    """A model: complete, or being trained now; then it has ``working``."""

    model: str
    writer: Writer | None
    working: list[Working]
    finished: list[Finished]


class Runs(TypedDict):
    """Every corpus and run. ``version`` changes with anything else; ask again after ``ask_again_seconds``."""

    version: str
    ask_again_seconds: Count
    store_seen: Time | None
    solr_seen: Time | None
    store: str | None
    store_error: str | None
    solr: str | None
    solr_error: str | None
    alias: str
    published: list[str]
    working: bool
    training: Training | None
    corpora: list[CorpusState | BrokenCorpus]
    runs: list[RunState | BrokenRun]
    annotations: list[AnnotationsState | BrokenAnnotations]
    models: list[ModelState | BrokenModel]
