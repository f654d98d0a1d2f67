"""The fields of a document: one table that Solr's schema, exports, URL parameters, facets and the JSON API come from.

Those that are ``beside`` the index come from the database of corrections (`indexing.query.people`), or from comparing runs
(`indexing.query.agreement`): they are added to what Solr returns, counts and filters.

To add a field, write one `Field` into `FIELDS`, at its place in a document. With a `Facet`,

    Field("split", "string", "The split of the data set.", presence="some", facet=Facet("Split", "splits", "Splits.")),

it is in hits, exports and the API, ``?split=test&split=train`` filters by it, the page and the API list its values with
counts, and the OpenAPI document describes all of this; no other module has to know it. Three more places have to
agree, and tests compare them with the table: `conf/solr/tags/schema.xml` declares the field, `tagging.tags` writes its value, and
`tagging.dataset_card` has its type.
"""

from dataclasses import dataclass
from typing import Any, Literal

PythonType = type[str] | type[int] | type[float] | type[list[Any]]
PYTHON_TYPES: dict[str, PythonType] = {
    "string": str,
    "strings": list,
    "int": int,
    "float": float,
    "descriptor": list,
}


@dataclass(frozen=True)
class Facet:
    """How a field is a filter: a URL parameter of its name, several values of which widen, and its values with counts."""

    heading: str  # on the page
    plural: str  # the list of its values in the JSON API
    description: str  # of the URL parameter
    prefix: str = ""  # before a value that stands without a heading: "runner-up frog"
    # All documents of a run have the same value. It is listed only where there are several to choose from.
    per_run: bool = False
    folded: bool = False  # closed on the page until it is opened


@dataclass(frozen=True)
class Range:
    """How a field is a filter by a range of whole percent: ``?confidence=60-100``."""

    description: str  # of the URL parameter


@dataclass(frozen=True)
class Field:
    """One field of a document. ``minimum``, ``maximum`` and ``pattern`` bound its values in the OpenAPI document."""

    name: str  # in documents, Solr, exports, URLs and the API
    type: Literal[
        "string", "strings", "int", "float", "descriptor"
    ]  # Solr's, as conf/solr/tags/schema.xml defines it
    description: str
    indexed: bool = True  # Solr can search by it; if not, it is only in hits
    presence: Literal["all", "forests", "some"] = "all"  # which documents have it
    beside: bool = False  # not in Solr
    in_hits: bool = True  # in what a search returns: a column of exports, a key in the API
    facet: Facet | None = None
    range: Range | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None

    @property
    def python_type(self) -> PythonType:
        """The type of its values in a hit."""
        return PYTHON_TYPES[self.type]


# In the order in which documents, exports and the API have them.
FIELDS = (
    Field(
        "id", "string", "HASH:PARTITION:ROW; the hash is the run's.", pattern="^[0-9a-f]{8}:[0-9]+:[0-9]+$"
    ),
    Field(
        "corpus", "string", "The corpus that the image is in.",
        facet=Facet("Corpus", "corpora", "Corpora.", prefix="corpus", per_run=True),
    ),
    Field("partition", "int", "The partition of the corpus, from 0.", minimum=0),
    Field("row", "int", "The row in the partition, from 0.", minimum=0),
    Field("name", "string", "The name of the picture in the dump.", indexed=False, presence="some"),
    Field(
        "tag", "string", "The class that the model gives the image.",
        facet=Facet("Tag", "tags", "Tags. Several widen: frog or ship."),
    ),
    Field("votes", "int", "How many trees voted for the tag.", presence="forests", minimum=0),
    Field(
        "trees", "int", "How many trees the forest has.", indexed=False, presence="forests", minimum=1
    ),
    Field(
        "confidence", "float", "A forest's share of votes for the tag; a network's probability.", minimum=0, maximum=1,
        range=Range("A range of whole percents, both ends included, the lower one first."),
    ),
    Field(
        "runner_up", "string", "The class with the second most votes.", presence="some",
        facet=Facet(
            "Runner-up", "runners_up", "The class with the second most votes.", prefix="runner-up", folded=True
        ),
    ),
    Field(
        "runner_up_votes", "int", "How many trees voted for the runner-up.", indexed=False, presence="forests",
        minimum=0,
    ),
    Field(
        "label", "string", "The class that a person gives the image.", presence="some",
        facet=Facet("Label", "labels", "The class that a person gives the image.", prefix="label", folded=True),
    ),
    Field(
        "people_label", "string", "The class that most people give the image on the page; none where as many give another.",
        presence="some", beside=True,
    ),
    Field(
        "correction", "string", "Whether people's label is the tag: agreed, corrected, or disputed between labels.",
        presence="some", beside=True,
        facet=Facet(
            "People's label", "corrections",
            "Images that people have labelled: corrected (not as the tag), agreed (as the tag) or disputed (no majority).",
        ),
    ),
    Field(
        "agreement", "string", "Whether all published models that give the image a tag give the same: agree, or disagree.",
        presence="some", beside=True,
        facet=Facet(
            "Agreement of models", "agreements",
            "Images with a tag by several published models: agree (the same tag) or disagree.", prefix="models",
        ),
    ),
    Field(
        "descriptor", "descriptor", "What the image looks like, to find similar ones.", presence="some", in_hits=False
    ),
    Field(
        "model", "string", "The model that made the tag.",
        facet=Facet("Model", "models", "Models that made the tags.", prefix="model", per_run=True),
    ),
    Field(
        "run", "string", "The run: one tagging of one corpus by one model.",
        facet=Facet("Run", "runs", "Runs, each one tagging of one corpus by one model.", prefix="run", per_run=True),
    ),
)  # fmt: skip

HIT_FIELDS = tuple(field for field in FIELDS if field.in_hits)
SOLR_FIELDS = tuple(field for field in FIELDS if not field.beside)
# What Solr returns of a hit, for its parameter fl.
HIT_NAMES = ",".join(field.name for field in HIT_FIELDS if not field.beside)
# Facets by field, in the order of URLs: those that a run has one value of come last.
FACETS = {
    field.name: field.facet
    for per_run in (False, True)
    for field in FIELDS
    if field.facet is not None and field.facet.per_run == per_run
}
RANGES = {field.name: field.range for field in FIELDS if field.range is not None}
# How many numbers a descriptor has.
DESCRIPTOR_NUMBERS = 60
