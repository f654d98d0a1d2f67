"""A small Solr client: collections, aliases, raw updates, counts and searches, each retried for a limited time.

Why not pysolr: it parses and encodes every document again (1.7 times as slow, see `make bench`), never retries, and has
no aliases. Here a body is sent as it is.
"""

import functools
import hashlib
import io
import json
import random
import re
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

import conf
from conf.addresses import split_login
from indexing.solr_errors import (
    BodyTooLargeError,
    HalfCreatedError,
    RefusedError,
    SolrError,
    TlsError,
    tls_error,
    trusted_cas,
)

Json = dict[str, Any]  # an answer of Solr

CONFIGSETS = Path(conf.__file__).parent / "solr"
CONFIGSET = CONFIGSETS / "tags"

# Seconds. A connect timeout also bounds each write of a body, which waits while Solr merges.
CONNECT_SECONDS = 15
READ_SECONDS = 60
# Merging and opening tens of millions of documents is slow; so is creating a collection on a busy machine.
SLOW_SECONDS = 600
FREE_SECONDS = 5
# A collection without an index for so long is half created, and not being created.
CREATE_SECONDS = 30
# With less space than this, a failed update is put down to the disk: a merge of segments that fails frees what it wrote.
FULL_BYTES = 100_000_000
PAGE_DOCUMENTS = 20_000
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 8.0
# Circuit breakers answer 429 (older ones 503), a node that stops or loses its leader 5xx, and one that has just started
# 404 for the collections that it hasn't opened yet.
PASSING = {404, 429, 500, 502, 503, 504}


class Solr:
    """Solr at ``address`` (``http://HOST:PORT/solr``); safe to use from several threads.

    A user and a password in the address (``http://USER:PASSWORD@HOST...``) are sent with each request, as basic auth; ``url``
    is the address without them. Of https:// the certificate is checked, by the CAs of the system or those in the file that
    SSL_CERT_FILE or REQUESTS_CA_BUNDLE names.

    After a refused connection, a time-out, 404, 429, 5xx or a 200 without Solr's JSON a request is repeated for ``patience``
    seconds, with random pauses that double up to 8 s. ``timeout`` is how many seconds one request may wait for its answer.
    """

    def __init__(self, address: str, patience: float = 5, timeout: float = READ_SECONDS) -> None:
        self._address = address.rstrip("/")
        self.url, self._login = split_login(self._address)
        self.patience, self.timeout = patience, timeout
        self._pool = urllib3.PoolManager(maxsize=8, retries=False, **trusted_cas())
        self._impatient = threading.Event()

    def patient(self, seconds: float) -> "Solr":
        """Return a client of the same Solr with another patience."""
        return Solr(self._address, seconds, self.timeout)

    def stop_waiting(self) -> None:
        """Make requests that other threads are repeating fail now."""
        self._impatient.set()

    # Collections

    def collections(self) -> list[str]:
        return sorted(self._admin("collections", "collections", action="LIST")["collections"])

    def exists(self, collection: str) -> bool:
        return collection in self.collections()

    def describe(self, collection: str) -> Json:
        """Return Solr's own description: ``configName``, ``shards``, ... Raises `SolrError` where there is none."""
        description: Json = self._cluster(collection=collection)["collections"][collection]
        return description

    def fields(self, collection: str) -> dict[str, Json]:
        """Return the fields of a collection's schema by name, each with ``type``, ``indexed``, ..."""
        answer = self._request(f"{quote(collection)}/schema/fields", {"showDefaults": "true"}, key="fields")
        return {field["name"]: field for field in answer["fields"]}

    def create(self, collection: str, shards: int = 1, configset: str = "tags") -> None:
        """Create a collection with the fields of a folder of `conf/solr/`; return when it answers."""
        folder = CONFIGSETS / configset if configset != "tags" else CONFIGSET
        name = configset_name() if configset == "tags" else configset_name(configset)
        if name not in self._admin("configs", "configSets", action="LIST")["configSets"]:
            self._request(
                "admin/configs", {"action": "UPLOAD", "name": name, "overwrite": "true"}, _zip_configset(folder),
                "application/octet-stream", timeout=SLOW_SECONDS,
            )  # fmt: skip
        wanted = {"collection.configName": name, "numShards": shards, "replicationFactor": 1}
        try:
            self._create(collection, wanted)
        except HalfCreatedError:
            self.delete(collection)
            self._create(collection, wanted)

    def _create(self, collection: str, wanted: Mapping[str, Any]) -> None:
        try:
            self._admin("collections", action="CREATE", name=collection, waitForFinalState="true", **wanted)
        except SolrError:
            if not self.exists(collection):  # a repeated request fails after its first attempt succeeded
                raise
        self.wait_for(collection, new=True)

    def wait_for(self, collection: str, new: bool = False) -> None:
        """Wait until the collection answers a search, which takes a moment after it was created or Solr started.

        Raises `HalfCreatedError` where it never will, and nothing is lost with it. ``new``: this command creates it.
        """
        began = time.monotonic()
        half_since: float | None = None
        brief = self.patient(min(self.patience, 1))
        while True:
            try:
                brief.select(collection, {"q": "*:*", "rows": 0})
                return
            except SolrError as error:
                now = time.monotonic()
                if error.status is None or not self._is_half_created(collection, new):
                    half_since = None
                elif half_since is None:
                    half_since = now
                elif now - half_since >= CREATE_SECONDS:
                    raise HalfCreatedError(
                        f"collection {collection!r} has no index: Solr ended while it was created; drop it with "
                        f"`tinytags retire {collection}` and index the run again",
                        error.status,
                    ) from error
                over = now - began > (self.patience if error.status is None else max(self.patience, 30))
                if over or isinstance(error, TlsError) or self._impatient.wait(0.2):
                    raise

    def _is_half_created(self, collection: str, new: bool) -> bool:
        """Return whether a shard has no replica; or, of a ``new`` collection, none that is up. False while an alias shows it.

        Of an older collection a replica that is down may have an index that Solr has yet to open: it lists it only then.
        """
        if any(collection in targets for targets in self.aliases().values()):
            return False
        return any(
            all(new and replica["state"] == "down" for replica in shard["replicas"].values())
            for shard in self.describe(collection)["shards"].values()
        )

    def delete(self, collection: str) -> None:
        self._admin("collections", action="DELETE", name=collection)

    # Aliases

    def aliases(self) -> dict[str, list[str]]:
        """Return every alias with the collections behind it."""
        aliases = self._admin("collections", "aliases", action="LISTALIASES")["aliases"]
        return {alias: targets.split(",") for alias, targets in aliases.items()}

    def alias(self, alias: str) -> list[str]:
        """Return the collections behind an alias; none where there is no such alias."""
        return self.aliases().get(alias, [])

    def set_alias(self, alias: str, collections: list[str]) -> None:
        """Point an alias, new or not, to exactly these collections, in one step."""
        self._admin("collections", action="CREATEALIAS", name=alias, collections=",".join(collections))

    def delete_alias(self, alias: str) -> None:
        self._admin("collections", action="DELETEALIAS", name=alias)

    # Documents

    def update(self, collection: str, body: bytes) -> None:
        """Post a JSON array of documents, or a JSON command, as it is; searches see them after the next `commit`.

        Raises `RefusedError` where Solr rejects one of them; others may be in the index then. Raises `BodyTooLargeError` where
        the body is too large.
        """
        self._write(collection, {}, body)

    def commit(self, collection: str) -> None:
        """Write what was posted to disk and make it visible; return when it is."""
        self._write(collection, {"commit": "true", "openSearcher": "true", "waitSearcher": "true"}, b"{}")

    def _write(self, collection: str, params: Mapping[str, Any], body: bytes) -> None:
        try:
            self._request(f"{quote(collection)}/update", params, body, timeout=SLOW_SECONDS)
        except SolrError as error:
            free = self._free_bytes() if error.status and error.status >= 500 else None
            if free is None or free > FULL_BYTES:
                raise
            raise SolrError(
                f"Solr's disk is full ({free / 1e6:,.0f} MB left): free some space, restart Solr and repeat this command; {error}",
                error.status,
                error.reason,
            ) from None

    def _free_bytes(self) -> int | None:
        """Return the space left where Solr keeps its collections; None where it can't tell."""
        names = "CONTAINER.fs.usableSpace,CONTAINER.fs.coreRoot.usableSpace"
        try:
            answer = self.patient(0).read(
                "admin/metrics", {"group": "node", "prefix": names}, FREE_SECONDS, "metrics"
            )
            return int(min(answer["metrics"]["solr.node"].values()))
        except (SolrError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def delete_partitions(self, collection: str, partitions: Iterable[int | None]) -> None:
        """Delete the documents of partitions (None: those without one) at the next commit."""
        partitions = set(partitions)
        numbers = sorted(int(p) for p in partitions if p is not None)
        if numbers:
            self._delete(collection, f"{{!terms f=partition}}{','.join(map(str, numbers))}")
        if None in partitions:
            self._delete(collection, "*:* -partition:[* TO *]")

    def delete_versions(self, collection: str, versions: Mapping[str, int]) -> None:
        """Delete documents by id, at the next commit, unless they are newer than these ``versions`` (their ``_version_``).

        So a request that Solr carries out late can't delete a document that was posted after it was sent.
        """
        ids = "\x1f".join(versions).replace("\\", "\\\\").replace("'", "\\'")
        self._delete(
            collection,
            f"+_version_:[* TO {max(versions.values()):d}] +{{!terms f=id separator='\x1f' v='{ids}'}}",
        )

    def _delete(self, collection: str, query: str) -> None:
        self.update(collection, json.dumps({"delete": {"query": query}}).encode())

    def counts(
        self, collection: str, first: int | None = None, last: int | None = None
    ) -> dict[int | None, int]:
        """Return the exact number of visible documents in each partition, over any number of shards.

        ``first`` and ``last`` limit it to a range; both or none. Documents without a partition count under None.
        """
        facet = {"type": "terms", "field": "partition", "limit": -1, "missing": True}
        query = "*:*" if first is None or last is None else f"partition:[{int(first)} TO {int(last)}]"
        answer = self.select(
            collection, {"q": query, "rows": 0, "json.facet": json.dumps({"partitions": facet})}
        )
        partitions = answer["facets"].get("partitions")  # left out where nothing matches
        if not partitions:
            return {}
        counts = {bucket["val"]: bucket["count"] for bucket in partitions["buckets"]}
        return counts | ({None: partitions["missing"]["count"]} if partitions["missing"]["count"] else {})

    def select(self, collection: str, params: Mapping[str, Any], timeout: float | None = None) -> Json:
        """Search a collection or alias; ``params`` are Solr's, a list for one given several times. Returns its JSON."""
        # Solr indents by default, which makes large answers half as large again and slower to write and read. It also
        # replaces ${NAME} in all values by the parameter NAME: a tag may look like that.
        body = urlencode(
            {"indent": "off", "expandMacros": "false", **params, "wt": "json"}, doseq=True
        ).encode()
        return self._request(
            f"{quote(collection)}/select", body=body, content_type="application/x-www-form-urlencoded",
            timeout=timeout, key="facets" if "json.facet" in params else "response",
        )  # fmt: skip

    def pages(self, collection: str, query: str, fields: str) -> Iterator[list[Json]]:
        """Yield all documents that match a query, ``PAGE_DOCUMENTS`` at a time, with these ``fields`` (Solr's ``fl``)."""
        # Not sorting takes a third of the time of a cursor.
        params = {"q": query, "fl": fields, "rows": PAGE_DOCUMENTS}
        response = self.select(collection, params)["response"]
        if response["numFound"] <= PAGE_DOCUMENTS:
            yield response["docs"]
            return
        cursor, last = "*", None
        while cursor != last:
            answer = self.select(collection, params | {"sort": "id asc", "cursorMark": cursor})
            yield answer["response"]["docs"]
            cursor, last = answer["nextCursorMark"], cursor

    # Requests

    def read(
        self, path: str, params: Mapping[str, Any], timeout: float | None = None, key: str = "responseHeader"
    ) -> Json:
        """Get another address of Solr, like ``COLLECTION/admin/luke``; return its JSON, an object that has ``key``."""
        return self._request(path, params, timeout=timeout, key=key)

    def _admin(self, what: str, key: str = "responseHeader", /, **params: Any) -> Json:
        slow = params.get("action") in ("CREATE", "DELETE", "CREATEALIAS", "DELETEALIAS")
        return self._request(f"admin/{what}", params, timeout=SLOW_SECONDS if slow else None, key=key)

    def _cluster(self, **params: Any) -> Json:
        cluster: Json = self._admin("collections", "cluster", action="CLUSTERSTATUS", **params)["cluster"]
        return cluster

    def _request(
        self, path: str, params: Mapping[str, Any] | None = None, body: bytes | None = None,
        content_type: str = "application/json", timeout: float | None = None, key: str = "responseHeader",
    ) -> Json:  # fmt: skip
        """Send a request, repeatedly if necessary; return the answer, a JSON object that has ``key``. Raises `SolrError`."""
        url = f"{self.url}/{path}" + (f"?{urlencode(params)}" if params else "")
        timeout = self.timeout if timeout is None else timeout
        limits = urllib3.Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout)
        headers = self._login | ({"Content-Type": content_type} if body is not None else {})
        until = time.monotonic() + self.patience
        attempt = 0
        while True:
            try:
                answer = self._pool.request(
                    "GET" if body is None else "POST", url, body=body, headers=headers, timeout=limits
                )
                if answer.status == 200 and (result := _parse(answer.data, key)) is not None:
                    return result
                failed = self._failed(path, answer)
            except urllib3.exceptions.HTTPError as error:
                failed = tls_error(self.url, error) or SolrError(
                    f"Solr at {self.url} does not answer ({_reason(error)}); start it with `scripts/services up solr`, "
                    "or set its address with --solr or TINYTAGS_SOLR"
                )
            attempt += 1
            pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)
            passing = failed.status in {None, 200, *PASSING} and not isinstance(failed, TlsError)
            if not passing or time.monotonic() + pause > until:
                raise failed
            if self._impatient.wait(pause):
                raise failed

    def _failed(self, path: str, answer: urllib3.BaseHTTPResponse) -> SolrError:
        """Return the error for a failed request, with Solr's own reason where it gives one."""
        status = answer.status
        try:
            error = answer.json()["error"]
            reason = str(error.get("msg") or error.get("trace") or error)
            # An error in an answer with status 200 has the status that it would have had otherwise.
            if status == 200 and isinstance(error.get("code"), int):
                status = error["code"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            start = answer.data[:100].decode(errors="replace")
            reason = (
                f"not an answer of Solr: {start!r}; is this Solr's address?"
                if status == 200
                else f"no reason given: {start!r}"
            )
        reason = " ".join(reason.split())
        message = f"Solr at {self.url} answers {answer.status} for {path}: {reason[:500]}"
        if status == 413:
            return BodyTooLargeError(message, reason)
        return RefusedError(message, reason) if status == 400 else SolrError(message, status, reason)


@functools.cache
def configset_name(configset: str = "tags") -> str:
    """Name the configset by its contents: collections created before a change keep their fields."""
    digest = hashlib.sha256()
    for file in sorted((CONFIGSETS / configset if configset != "tags" else CONFIGSET).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return f"{configset}-{digest.hexdigest()[:8]}"


def _parse(data: bytes, key: str) -> Json | None:
    """Return an answer of Solr; None for anything else, such as an error, a proxy's page or an object without ``key``."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and key in answer and "error" not in answer else None


def _zip_configset(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return packed.getvalue()


def _reason(error: Exception) -> str:
    """Return the reason at the end of urllib3's ``<HTTPConnection(...)>: Failed to establish ...: [Errno 111] ...``."""
    return re.sub(r"^.*(\[Errno \d+\] |: )", "", " ".join(str(error).split())) or type(error).__name__
