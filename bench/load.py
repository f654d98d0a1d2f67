"""Requests pages of the search as one user or many, and measures their latency."""

import itertools
import json
import re
import threading
import time
from collections.abc import Iterable

from bench.harness import UnequalError, percentile, single
from bench.rows.page import Client, read_lines
from bench.rows.search import unseen_searches
from conf.wording import counted
from indexing.query.search_state import SearchState
from storage.runs import open_run

USERS = (1, 20)
PAGES = 400
EXPORTED = 1_000_000
# The kinds of pages, and the most milliseconds (p50, p99) for one user.
LIMITS = {"first": (15, 60), "filtered": (15, 60), "page 1,000": (None, None)}


def measure_page(place, run: str, alias: str, count: int) -> dict:
    """Request first, filtered and deep pages as one user and as many, and an export."""
    results = {}
    with place.page(alias) as (url, _):
        began = time.perf_counter()
        Client(url).get("/")  # the first request counts all documents
        results["counting_seconds"] = time.perf_counter() - began
        searches = unseen_searches(open_run(place.store, run).classes, seed=5)
        kinds = {
            "first": itertools.repeat("/"),
            "filtered": (state.url() for state in searches),
            "page 1,000": (state.with_page(1000).url() for state in searches),
        }
        request_pages(url, 1, kinds["filtered"], max(count // 4, 1))  # warms Solr up
        for users in USERS:
            for kind, paths in kinds.items():
                results[f"{kind}, {users}"] = request_pages(url, users, paths, count)
                place.note(
                    f"{count} pages for {counted(users, 'user')}, {kind}: {results[f'{kind}, {users}']}"
                )
            if "export" not in results:  # before many users fill Solr's heap
                results["export"] = export(place, url, run)
    return results


def request_pages(url: str, users: int, paths: Iterable[str], count: int, seconds: float = 60) -> dict:
    """Request ``count`` pages by users together, each the next one after the last response, for at most ``seconds``.

    Returns the milliseconds of a page (p50, p99, most), the pages a second, and how many did not have status 200.
    """
    began = time.perf_counter()
    paths, lock, waited, failures = itertools.islice(paths, count), threading.Lock(), [], []

    def use() -> None:
        client = Client(url)
        while time.perf_counter() - began <= seconds:
            with lock:
                path = next(paths, None)
            if path is None:
                return
            started = time.perf_counter()
            try:
                client.get(path)
            except UnequalError as error:
                failures.append(str(error))
            except OSError as error:
                failures.append(f"GET {path}: {error!r}")
                client = Client(url)
            waited.append(time.perf_counter() - started)

    threads = [threading.Thread(target=use) for _ in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "users": users,
        "pages": len(waited),
        "failed": len(failures),
        "failure": failures[0] if failures else None,
        "p50_ms": 1000 * percentile(waited, 50),
        "p99_ms": 1000 * percentile(waited, 99),
        "most_ms": 1000 * max(waited),
        "pages_per_second": len(waited) / (time.perf_counter() - began),
    }


def export(place, url: str, run: str) -> dict:
    """Export about a million hits, by the link on the page of a search."""
    html = Client(url).get(about_a_million(place, run).url()).decode()
    links = re.findall(r'href="([^"]*(?:export|\.csv|\.jsonl)[^"]*)"', html)
    if not links:
        raise UnequalError("the page of a search has no link to export it")
    place.note(f"exporting: {links[0]}")
    began = time.perf_counter()
    lines, size = read_lines(url, links[0].replace("&amp;", "&"))
    seconds = time.perf_counter() - began
    return {"lines": lines, "bytes": size, "seconds": seconds, "lines_per_second": lines / seconds}


def about_a_million(place, run: str) -> SearchState:
    """Return the search for tags at 40 % that has about a million hits, or for one tag where that has more."""
    facet = {"tags": {"type": "terms", "field": "tag", "limit": -1}}
    query = {"q": "votes:[4 TO 4]", "rows": 0, "json.facet": json.dumps(facet)}
    facets = place.solr_client.select(run, query)["facets"]
    chosen, total = [], 0
    for bucket in facets.get("tags", {}).get("buckets", []):
        if not chosen or total + bucket["count"] <= 1.2 * EXPORTED:
            chosen, total = [*chosen, bucket["val"]], total + bucket["count"]
    return SearchState({"tag": tuple(chosen)}, confidence=(40, 40))


def page_rows(page: dict) -> list[dict]:
    """Return the rows of the page."""
    rows = [
        single("full/counting", "first page of a new index", "counts included", page["counting_seconds"], "s")
    ]
    for kind, limits in LIMITS.items():
        words = "page 1,000, filtered" if kind == "page 1,000" else f"{kind} page"
        for users in USERS:
            result = page[f"{kind}, {users}"]
            crowd = "1 user" if users == 1 else f"{users} users, {result['pages_per_second']:.0f} pages/s"
            for percent, limit in zip((50, 99), limits, strict=True):
                name, target = (
                    f"full/{kind.replace(' ', '-')}-{users}-p{percent}",
                    limit if users == 1 else None,
                )
                against, value = f"p{percent}, {crowd}", result[f"p{percent}_ms"]
                rows.append(single(name, words, against, value, "ms", target, at_most=True))
    results = [page[f"{kind}, {users}"] for kind in LIMITS for users in USERS]
    failed, pages = (sum(result[key] for result in results) for key in ("failed", "pages"))
    failure = next((result["failure"] for result in results if result["failed"]), "")
    words = "pages without an answer"
    rows.append(single("full/failed", words, f"of {pages:,}", failed, "pages", 0, at_most=True, note=failure))
    words = f"export of {page['export']['lines']:,} lines"
    return [*rows, single("full/export", words, "streamed", page["export"]["lines_per_second"], "lines/s")]
