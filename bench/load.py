"""Asks the search page as one user or many do, and says how long they wait."""

import http.client
import itertools
import json
import re
import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from bench.harness import UnequalError, percentile, told
from bench.rows.page import Client
from bench.rows.search import never_asked
from conf.wording import counted
from indexing.query.search_state import SearchState
from storage.runs import open_run

USERS = (1, 20)
PAGES = 400
EXPORTED = 1_000_000
# What is asked, and how soon (p50, p99, ms) one user should have it.
ASKED = {"first": (15, 60), "filtered": (15, 60), "page 1,000": (None, None)}


def ask_pages(place, run: str, alias: str, count: int) -> dict:
    """Ask for first, filtered and deep pages as one user and as many; and for an export."""
    found = {}
    with place.page(alias) as (url, _):
        began = time.perf_counter()
        Client(url).get("/")  # the page counts what there is when it is first asked
        found["counting_seconds"] = time.perf_counter() - began
        searches = never_asked(open_run(place.store, run).classes, seed=5)
        asked = {
            "first": itertools.repeat("/"),
            "filtered": (state.url() for state in searches),
            "page 1,000": (state.with_page(1000).url() for state in searches),
        }
        ask(url, 1, asked["filtered"], max(count // 4, 1))  # warms Solr up
        for users in USERS:
            for name, paths in asked.items():
                place.told(f"{count} pages for {counted(users, 'user')}: {name}")
                found[f"{name}, {users}"] = ask(url, users, paths, count)
                place.told(f"  {found[f'{name}, {users}']}")
            if "export" not in found:  # before many users tire Solr out
                found["export"] = export(place, url, run)
    return found


def ask(url: str, users: int, paths: Iterable[str], count: int, seconds: float = 60) -> dict:
    """Have users ask for ``count`` pages together, each the next one as soon as its last one came, for ``seconds`` at most.

    Returns the milliseconds they waited (p50, p99, most), the pages a second, and how many weren't answered with 200.
    """
    paths, lock, waited, failures = iter(paths), threading.Lock(), [], []
    left = count
    began = time.perf_counter()

    def use() -> None:
        nonlocal left
        client = Client(url)
        while True:
            with lock:
                if not left or time.perf_counter() - began > seconds:
                    return
                left -= 1
                path = next(paths)
            asked = time.perf_counter()
            try:
                client.get(path)
                failure = None
            except UnequalError as error:
                failure = str(error)
            except OSError as error:
                failure, client = f"GET {path}: {error!r}", Client(url)
            with lock:
                waited.append(time.perf_counter() - asked)
                failures.extend([failure] if failure else [])

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
    """Export about a million hits, by the link that the page of a search has for it."""
    html = Client(url).get(about_a_million(place, run).url()).decode()
    links = re.findall(r'href="([^"]*(?:export|\.csv|\.jsonl)[^"]*)"', html)
    if not links:
        raise UnequalError("the page of a search has no link to export it")
    place.told(f"exporting: {links[0]}")
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    began = time.perf_counter()
    connection.request("GET", links[0].replace("&amp;", "&"))
    answer = connection.getresponse()
    lines = size = 0
    while block := answer.read(1 << 20):
        lines, size = lines + block.count(b"\n"), size + len(block)
    seconds = time.perf_counter() - began
    if answer.status != 200:
        raise UnequalError(f"GET {links[0]} is answered with {answer.status}")
    return {"lines": lines, "bytes": size, "seconds": seconds, "lines_per_second": lines / seconds}


def about_a_million(place, run: str) -> SearchState:
    """Return the search for tags at 40 % that has about a million hits, or for one tag where that has more."""
    facet = {"tags": {"type": "terms", "field": "tag", "limit": -1}}
    asked = {"q": "votes:[4 TO 4]", "rows": 0, "json.facet": json.dumps(facet)}
    answer = place.solr_client.select(run, asked)
    chosen, total = [], 0
    for bucket in answer["facets"].get("tags", {}).get("buckets", []):
        if not chosen or total + bucket["count"] <= 1.2 * EXPORTED:
            chosen, total = [*chosen, bucket["val"]], total + bucket["count"]
    return SearchState({"tag": tuple(chosen)}, confidence=(40, 40))


def page_rows(page: dict) -> list[dict]:
    """Return what is told of the page."""
    found = [
        told("full/counting", "first page of a new index", "counts included", page["counting_seconds"], "s")
    ]
    for name, limits in ASKED.items():
        for users in USERS:
            asked = page[f"{name}, {users}"]
            words = "page 1,000, filtered" if name == "page 1,000" else f"{name} page"
            crowd = "1 user" if users == 1 else f"{users} users, {asked['pages_per_second']:.0f} pages/s"
            for percent, limit in zip((50, 99), limits, strict=True):
                label = f"full/{name.replace(' ', '-')}-{users}-p{percent}"
                milliseconds, target = asked[f"p{percent}_ms"], limit if users == 1 else None
                found.append(
                    told(label, words, f"p{percent}, {crowd}", milliseconds, "ms", target, at_most=True)
                )
    answers = [page[f"{name}, {users}"] for name in ASKED for users in USERS]
    failed, pages = (sum(asked[key] for asked in answers) for key in ("failed", "pages"))
    failure = next((asked["failure"] for asked in answers if asked["failed"]), "")
    found.append(
        told(
            "full/failed",
            "pages not answered",
            f"of {pages:,}",
            failed,
            "pages",
            0,
            at_most=True,
            note=failure,
        )
    )
    what = f"export of {page['export']['lines']:,} lines"
    found.append(told("full/export", what, "streamed", page["export"]["lines_per_second"], "lines/s"))
    return found
