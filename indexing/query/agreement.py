"""Where models agree: the tags of several published runs of a corpus, compared beside the index.

Each run has a collection of its own, so that no query of Solr compares two of them. So their tags are read, once for each version
of the index; an index without several runs of a corpus costs nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from indexing.query.cells import COUNT_SECONDS, IN_SOLR, Cells
from indexing.query.images import Documents
from indexing.query.people import DOCUMENTS, KEY_FIELDS, Key, Moved, Place, document_key, with_moved
from indexing.solr import Solr

AGREE, DISAGREE = "agree", "disagree"
# Runs of one corpus with more documents are not compared: reading 200,000 takes Solr some seconds.
MOST_DOCUMENTS = 200_000
# A filter has three clauses for each partition of all corpora, and Solr's limit is 4,096 (conf/solr/solr.xml).
MOST_PARTITIONS = 1_000

_TAG = IN_SOLR.index("tag")


@dataclass(frozen=True, eq=False)
class ComparedRuns:
    """Whether the tags are the same, of each image with a tag by several runs.

    ``cells`` are those of the compared collections, with each document in the cell of its agreement; ``documents`` are their
    documents one by one.
    """

    by_corpus: Mapping[str, Mapping[Place, str]] = field(default_factory=dict)
    cells: Mapping[str, Cells] = field(default_factory=dict)
    documents: Mapping[str, Documents] = field(default_factory=dict)
    _queries: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict, init=False)

    def of_corpus(self, name: str) -> Mapping[Place, str]:
        return self.by_corpus.get(name, {})

    def query(self, wanted: Collection[str]) -> Mapping[str, str]:
        """Return the parameters of a query ``agreement_filter`` for the images with one of ``wanted``: their rows by partition."""
        values = tuple(value for value in (AGREE, DISAGREE) if value in wanted)
        if values not in self._queries:  # a page may need one for each level
            self._queries[values] = self._query(values)
        return self._queries[values]

    def _query(self, wanted: tuple[str, ...]) -> dict[str, str]:
        rows: dict[tuple[str, int], list[int]] = {}
        for corpus, compared in self.by_corpus.items():
            for (partition, row), value in compared.items():
                if value in wanted:
                    rows.setdefault((corpus, partition), []).append(row)
        parameters: dict[str, str] = {}
        for n, ((corpus, partition), of_partition) in enumerate(sorted(rows.items())):
            parameters |= {
                f"compared{n}": f"{{!bool must=$compared_in{n} must=$compared_at{n} must=$compared_rows{n}}}",
                f"compared_in{n}": f"{{!term f=corpus v=$compared_corpus{n}}}",
                f"compared_corpus{n}": corpus,
                f"compared_at{n}": f"partition:[{partition:d} TO {partition:d}]",
                f"compared_rows{n}": f"{{!terms f=row v=$compared_list{n}}}",
                f"compared_list{n}": ",".join(map(str, sorted(of_partition))),
            }
        clauses = " ".join(f"should=$compared{n}" for n in range(len(rows)))
        return parameters | {"agreement_filter": f"{{!bool {clauses}}}"}


NOT_COMPARED = ComparedRuns()


def comparable(cells: Mapping[str, Cells]) -> dict[str, list[str]]:
    """Return the collections of each corpus that has several with documents, `MOST_DOCUMENTS` at most."""
    corpora: dict[str, list[str]] = {}
    for name, some in cells.items():
        if some.documents.size:
            corpora.setdefault(some.source.value("corpus"), []).append(name)
    return {
        corpus: names
        for corpus, names in corpora.items()
        if len(names) > 1 and sum(int(cells[name].documents.sum()) for name in names) <= MOST_DOCUMENTS
    }


def compare(solr: Solr, cells: Mapping[str, Cells]) -> ComparedRuns:
    """Read the tags of the collections that are `comparable`, and compare them. Raises `SolrError`."""
    agreements: dict[str, Mapping[Place, str]] = {}
    with_agreements: dict[str, Cells] = {}
    one_by_one: dict[str, Documents] = {}
    images = 0
    left = MOST_PARTITIONS
    for corpus, names in comparable(cells).items():
        documents = {name: _read_documents(solr, name) for name in names}
        compared = compare_tags(
            {place: key[0][_TAG] for place, key in keys.items()} for keys in documents.values()
        )
        partitions = len({partition for partition, _ in compared})
        if partitions > left:
            continue
        left -= partitions
        agreements[corpus] = compared
        numbers = {place: images + n for n, place in enumerate(set().union(*documents.values()))}
        images += len(numbers)
        for name, keys in documents.items():
            moved: Counter[Moved] = Counter()
            for place in keys.keys() & compared.keys():
                moved[keys[place], None, None] -= 1
                moved[keys[place], compared[place], None] += 1
            with_agreements[name] = with_moved(cells[name], moved)
            one_by_one[name] = Documents.of(cells[name], keys, compared, numbers)
    return ComparedRuns(agreements, with_agreements, one_by_one)


def compare_tags(runs: Iterable[Mapping[Place, str]]) -> dict[Place, str]:
    """Return for each image with a tag by several runs whether these are the same."""
    first: dict[Place, str] = {}
    compared: dict[Place, str] = {}
    for tags in runs:
        for place, tag in tags.items():
            if place not in first:
                first[place] = tag
            elif compared.get(place) != DISAGREE:
                compared[place] = AGREE if tag == first[place] else DISAGREE
    return compared


def _read_documents(solr: Solr, collection: str) -> dict[Place, Key]:
    """Return the keys of all documents of a collection. Equal ones are one object: there are few, and many documents."""
    keys: dict[Place, Key] = {}
    same: dict[Key, Key] = {}
    cursor, full = "*", True
    while full:
        parameters = {"q": "*:*", "sort": "confidence desc,id asc", "fl": KEY_FIELDS, "rows": DOCUMENTS}
        answer = solr.select(collection, parameters | {"cursorMark": cursor}, timeout=COUNT_SECONDS)
        documents = answer["response"]["docs"]
        for document in documents:
            _, partition, row = document["id"].split(":")
            key = document_key(document)
            keys[int(partition), int(row)] = same.setdefault(key, key)
        cursor, full = answer["nextCursorMark"], len(documents) == DOCUMENTS
    return keys
