"""Asks the search page as one user or many do, and says how long they wait."""

import threading
import time
from collections.abc import Iterable

from bench.harness import UnequalError, percentile
from bench.rows.page import Client


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
