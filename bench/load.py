"""Asks the search page as one user or many do, and says how long they wait."""

import threading
import time
from collections.abc import Iterable

from bench.harness import percentile
from bench.rows.page import Client


def ask(url: str, users: int, paths: Iterable[str], count: int) -> dict:
    """Have users ask for ``count`` pages together, each the next one as soon as its last one came.

    Returns the milliseconds they waited (p50, p99, most) and the pages a second.
    """
    paths, lock, seconds, failed = iter(paths), threading.Lock(), [], []

    def use() -> None:
        client = Client(url)
        while True:
            with lock:
                if failed or len(seconds) == count:
                    return
                path = next(paths)
                seconds.append(None)
                place = len(seconds) - 1
            began = time.perf_counter()
            try:
                client.get(path)
            except Exception as error:
                failed.append(error)
                return
            seconds[place] = time.perf_counter() - began

    threads = [threading.Thread(target=use) for _ in range(users)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return {
        "users": users,
        "pages": len(seconds),
        "p50_ms": 1000 * percentile(seconds, 50),
        "p99_ms": 1000 * percentile(seconds, 99),
        "most_ms": 1000 * max(seconds),
        "pages_per_second": len(seconds) / (time.perf_counter() - began),
    }
