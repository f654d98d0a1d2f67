"""Looking at Solr again and again: what it holds of each run, counted anew only where that has changed since the last look."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from indexing.solr import Solr, SolrError

# A Solr that hangs is as good as one that is down. Counting is another matter: 56 million documents take 1.2 s.
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Collection:
    """What Solr says of one run: its documents by partition (None where they aren't counted), and what is coming in."""

    counts: dict[int | None, int] | None
    waiting: int  # documents posted that searches don't see before the next commit
    per_second: float | None  # documents posted, over the last minute or so


@dataclass(frozen=True)
class SolrStatus:
    """What Solr says: what the alias shows, and of the runs ``asked`` for, the collections of those that it has."""

    published: list[str]
    asked: frozenset[str]
    collections: dict[str, Collection]


class SolrWatch:
    """Looks at a Solr; for one thread at a time. Two requests a look, and one for each collection that has changed."""

    def __init__(self, solr: Solr, alias: str) -> None:
        self.solr, self.alias = solr, alias
        self._counts: dict[str, tuple[tuple, dict[int | None, int]]] = {}
        self._posted: dict[str, tuple[tuple | None, int]] = {}

    def scan(self, names: Iterable[str], seconds: float | None = None) -> SolrStatus:
        """Return what Solr says of the runs ``names``. After ``seconds`` of counting the rest is left to the next look.

        Raises `SolrError` where Solr doesn't answer.
        """
        until = None if seconds is None else time.monotonic() + seconds
        names = frozenset(names)
        cluster = self.solr.read("admin/collections", {"action": "CLUSTERSTATUS"}, ANSWER_SECONDS)["cluster"]
        targets = cluster.get("aliases", {}).get(self.alias)
        there = {name: cluster["collections"][name] for name in sorted(names & cluster["collections"].keys())}
        cores = self._cores(len(cluster.get("live_nodes", []))) if there else {}
        found = {}
        for name, description in there.items():
            states = [cores.get(core) for core in _leaders(name, description)]
            if states and all(states):
                version = (description.get("creationTimeMillis"), *(core["version"] for core in states))
                added, rate = (sum(core[key] for core in states) for key in ("added", "rate"))
            else:
                version, added, rate = None, 0, None
            counts = self._count(name, version, until)
            found[name] = Collection(counts, self._waiting(name, version, counts, added), rate or None)
        return SolrStatus(targets.split(",") if targets else [], names, found)

    def _cores(self, nodes: int) -> dict[str, dict]:
        """Return what the metrics of each core say: a version of what searches see, documents added ever, and of late."""
        parameters = {
            "group": "core",
            "prefix": "SEARCHER.searcher.indexVersion,SEARCHER.searcher.openedAt,UPDATE.updateHandler.cumulativeAdds",
        }
        if nodes > 1:
            parameters["nodes"] = "all"
        try:
            answer = self.solr.read("admin/metrics", parameters, ANSWER_SECONDS)
        except SolrError:
            return {}  # they can be turned off; rates are unknown then, and counts asked for at every look
        found = {}
        for node in (answer, *answer.values()):  # with several nodes there is one such answer in it for each
            metrics = node.get("metrics") if isinstance(node, dict) else None
            for core, values in (metrics or {}).items():
                try:
                    adds = values["UPDATE.updateHandler.cumulativeAdds"]
                    version = values["SEARCHER.searcher.indexVersion"], values["SEARCHER.searcher.openedAt"]
                    found[core] = {"version": version, "added": adds["count"], "rate": adds["1minRate"]}
                except (KeyError, TypeError):  # a core that is just being opened
                    continue
        return found

    def _count(self, name: str, version: tuple | None, until: float | None) -> dict[int | None, int] | None:
        before, counts = self._counts.get(name, (None, None))
        if version is not None and before == version:
            return counts
        if until is not None and time.monotonic() > until:
            return None
        try:
            counts = self.solr.counts(name)
        except SolrError:  # this collection alone, for Solr has just answered
            return None
        # The version was read before: an index that changed in between is counted again the next time.
        self._counts[name] = (version, counts)
        return counts

    def _waiting(self, name: str, version: tuple | None, counts: dict | None, added: int) -> int:
        """Return how many documents were posted since what searches see last changed, as far as we saw it change."""
        before, then = self._posted.get(name, (None, 0))
        if before != version:
            then = 0 if counts == {} else added
        self._posted[name] = (version, then)
        return max(added - then, 0)


def _leaders(collection: str, description: dict) -> list[str]:
    """Return what Solr's metrics call the leading core of each shard; nothing where one has none."""
    found = [
        f"solr.core.{collection}.{shard}.{replica['core'].removeprefix(f'{collection}_{shard}_')}"
        for shard, state in description["shards"].items()
        for replica in state["replicas"].values()
        if replica.get("leader") == "true"
    ]
    return found if len(found) == len(description["shards"]) else []
