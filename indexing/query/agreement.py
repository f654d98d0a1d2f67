"""Where models agree: the images that several published runs of a corpus tagged, compared beside the index.

Each run has a collection of its own, so that no query of Solr compares two of them. So their tags are read once for each version
of the index; an index without several runs of a corpus costs nothing.
"""

from collections.abc import Iterable, Mapping, Sequence

from indexing.query.people import Place

AGREE, DISAGREE = "agree", "disagree"
# Runs of one corpus with more documents are not compared: reading 200,000 takes Solr some seconds.
MOST_DOCUMENTS = 200_000
# A filter has a clause for each partition, and Solr's limit is 4,096 (conf/solr/solr.xml).
MOST_PARTITIONS = 1_000

# Whether the tags of an image are the same, of each image with a tag by several runs; by corpus.
Agreements = Mapping[str, Mapping[Place, str]]


def compare_tags(runs: Iterable[Mapping[Place, str]]) -> dict[Place, str]:
    """Return for each image with a tag by several runs whether these are the same; nothing for too many partitions."""
    first: dict[Place, str] = {}
    compared: dict[Place, str] = {}
    for tags in runs:
        for place, tag in tags.items():
            if place not in first:
                first[place] = tag
            elif compared.get(place) != DISAGREE:
                compared[place] = AGREE if tag == first[place] else DISAGREE
    return compared if len({partition for partition, _ in compared}) <= MOST_PARTITIONS else {}


def agreement_query(agreements: Agreements, wanted: Sequence[str]) -> dict[str, str]:
    """Return the parameters of a query ``agreement_filter`` for the images with one of ``wanted``: their rows by partition."""
    rows: dict[tuple[str, int], list[int]] = {}
    for corpus, compared in agreements.items():
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
