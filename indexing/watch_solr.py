"""Scanning Solr again and again: the documents of each run, counted only where they have changed since the last scan."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from indexing.solr import Solr
from indexing.solr_errors import SolrError

# A Solr that hangs is treated like one that is down. Counting may take longer: 56 million documents take 1.2 s.
ANSWER_SECONDS = 2.0

PartitionCounts = dict[int | None, int]  # documents by partition; None: those without one
Version = tuple[Any, ...]


@dataclass(frozen=True)
class Collection:
    """A run in Solr: its documents by partition (None where they aren't counted), and those being posted."""

    counts: PartitionCounts | None
    waiting: int  # documents posted but not committed
    per_second: float | None  # documents posted, over the last minute or so


@dataclass(frozen=True)
class SolrStatus:
    """The state of Solr: the runs behind the alias, and the collections there are of the runs ``requested``."""

    published: list[str]
    requested: frozenset[str]
    collections: dict[str, Collection]
    aliases: dict[str, list[str]]


class SolrWatch:
    """Scans a Solr; for one thread at a time. A scan is two requests, and one for each collection that has changed."""

    def __init__(self, solr: Solr, alias: str) -> None:
        self.solr, self.alias = solr, alias
        self._counts: dict[str, tuple[Version | None, PartitionCounts]] = {}
        self._posted: dict[str, tuple[Version | None, int]] = {}

    def scan(self, names: Iterable[str], seconds: float | None = None) -> SolrStatus:
        """Return the state of the runs ``names``. After ``seconds`` of counting the rest is left to the next scan.

        Raises `SolrError` where Solr doesn't answer.
        """
        until = None if seconds is None else time.monotonic() + seconds
        names = frozenset(names)
        parameters = {"action": "CLUSTERSTATUS"}
        cluster = self.solr.read("admin/collections", parameters, ANSWER_SECONDS, "cluster")["cluster"]
        aliases = {alias: names.split(",") for alias, names in cluster.get("aliases", {}).items()}
        there = {name: cluster["collections"][name] for name in sorted(names & cluster["collections"].keys())}
        cores = self._cores(len(cluster.get("live_nodes", []))) if there else {}
        collections = {}
        for name, description in there.items():
            leaders = _leaders(name, description)
            states = [cores[core] for core in leaders if core in cores]
            version: Version | None
            if states and len(states) == len(leaders):
                version = (description.get("creationTimeMillis"), *(core["version"] for core in states))
                added, rate = (sum(core[key] for core in states) for key in ("added", "rate"))
            else:
                version, added, rate = None, 0, None
            counts = self._count(name, version, until)
            collections[name] = Collection(counts, self._waiting(name, version, counts, added), rate or None)
        return SolrStatus(aliases.get(self.alias, []), names, collections, aliases)

    def _cores(self, nodes: int) -> dict[str, dict[str, Any]]:
        """Return of each core a version of its searcher, the documents ever added, and the rate of the last minute."""
        parameters = {
            "group": "core",
            "prefix": "SEARCHER.searcher.indexVersion,SEARCHER.searcher.openedAt,UPDATE.updateHandler.cumulativeAdds",
        }
        if nodes > 1:
            parameters["nodes"] = "all"
        try:
            answer = self.solr.read("admin/metrics", parameters, ANSWER_SECONDS)
        except SolrError:
            return {}  # metrics can be turned off: rates are then unknown, and counts requested for at every scan
        cores = {}
        for node in (answer, *answer.values()):  # of several nodes, each has such an answer within
            metrics = node.get("metrics") if isinstance(node, dict) else None
            for core, values in (metrics or {}).items():
                try:
                    adds = values["UPDATE.updateHandler.cumulativeAdds"]
                    version = values["SEARCHER.searcher.indexVersion"], values["SEARCHER.searcher.openedAt"]
                    cores[core] = {"version": version, "added": adds["count"], "rate": adds["1minRate"]}
                except (KeyError, TypeError):  # a core that is just being opened
                    continue
        return cores

    def _count(self, name: str, version: Version | None, until: float | None) -> PartitionCounts | None:
        if version is not None and name in self._counts and self._counts[name][0] == version:
            return self._counts[name][1]
        if until is not None and time.monotonic() > until:
            return None
        try:
            counts = self.solr.counts(name)
        except SolrError:  # only this collection fails, for Solr has just answered
            return None
        # The version was read before: an index that changed in between is counted again the next time.
        self._counts[name] = (version, counts)
        return counts

    def _waiting(self, name: str, version: Version | None, counts: PartitionCounts | None, added: int) -> int:
        """Return how many documents were posted since the last change of the searcher that a scan has seen."""
        before, then = self._posted.get(name, (None, 0))
        if before != version:
            then = 0 if counts == {} else added
        self._posted[name] = (version, then)
        return max(added - then, 0)


def _leaders(collection: str, description: dict[str, Any]) -> list[str]:
    """Return the names of the leading core of each shard in Solr's metrics; none where a shard has no leader."""
    leaders = [
        f"solr.core.{collection}.{shard}.{replica['core'].removeprefix(f'{collection}_{shard}_')}"
        for shard, state in description["shards"].items()
        for replica in state["replicas"].values()
        if replica.get("leader") == "true"
    ]
    return leaders if len(leaders) == len(description["shards"]) else []
