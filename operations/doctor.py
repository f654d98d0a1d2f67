"""The doctor: looks at everything TinyTags stands on, and says what is missing and how to mend it."""

import contextlib
import importlib.util
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted

# What a corpus of 20,000 images, its tags and its index take, with room to breathe.
DISK_BYTES = 1 << 30
PACKAGES = [
    "click",
    "numpy",
    "pyarrow",
    "numba",
    "pillow",
    "hdfs",
    "urllib3",
    "tqdm",
    "flask",
    "waitress",
    "isal",
    "sqlalchemy",
    "prometheus-client",
]


def examine(settings: Settings) -> dict:
    """Return {"healthy", "checks": [{"name", "state": "good" | "missing" | "bad", "what", "fix"}]}; writes nothing.

    Not healthy is what keeps a step from running; a Solr that is only not started is told, but is no illness.
    """
    checks = [
        _python(),
        _packages(),
        _java(),
        _spark(settings),
        *_servers(settings),
        _store(settings),
        _disk(settings),
    ]
    return {"healthy": all(check["state"] != "bad" for check in checks), "checks": checks}


def describe(result: dict) -> str:
    """Return an examination as lines for people."""
    marks = {"good": "ok     ", "missing": "missing", "bad": "BAD    "}
    lines = []
    for check in result["checks"]:
        lines.append(f"{marks[check['state']]} {check['name']}: {check['what']}")
        if check["fix"]:
            lines.append(f"        -> {check['fix']}")
    states = {check["state"] for check in result["checks"]}
    if "bad" in states:
        lines.append("some steps can't run; see above")
    elif "missing" in states:
        lines.append("what every step needs is there; some steps want what is missing")
    else:
        lines.append("all that the steps need is there")
    return "\n".join(lines)


def _check(name: str, state: str, what: str, fix: str = "") -> dict:
    return {"name": name, "state": state, "what": what, "fix": fix}


def _python() -> dict:
    return _check("Python", "good", f"{platform.python_version()} at {sys.executable}")


def _packages() -> dict:
    found, missing = [], []
    # With pandas, PySpark hands Arrow batches to Python.
    for name in PACKAGES + ["pandas"] * (importlib.util.find_spec("pyspark") is not None):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return _check("packages", "bad", f"without {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return _check("packages", "good", ", ".join(found))


def _java() -> dict:
    from operations.services import java_command

    try:
        return _check("Java", "good", java_command())
    except TinyTagsError as error:
        what, _, fix = str(error).partition("; ")
        return _check("Java", "bad", what, fix)


def _spark(settings: Settings) -> dict:
    if importlib.util.find_spec("pyspark") is None:
        return _check("Spark", "bad", "not installed", "pip install 'tinytags[spark]'")
    version = metadata.version("pyspark")
    wanted = os.environ.get("PYSPARK_PYTHON")
    if wanted and shutil.which(wanted) is None:
        return _check("Spark", "bad", f"PYSPARK_PYTHON {wanted!r} is no program", "unset PYSPARK_PYTHON")
    if settings.master.startswith("yarn") and not os.environ.get("HADOOP_CONF_DIR"):
        return _check("Spark", "bad", f"{version}; master {settings.master!r} without HADOOP_CONF_DIR",
                      "set HADOOP_CONF_DIR to the folder with yarn-site.xml")  # fmt: skip
    return _check("Spark", "good", f"{version}, master {settings.master}")


def _servers(settings: Settings) -> list[dict]:
    from operations.services import get_json

    checks = []
    told = get_json(f"{settings.solr}/admin/info/system")
    if isinstance(told, dict):
        version = told.get("lucene", {}).get("solr-spec-version", "of unknown version")
        old = _numbers(version) < (9, 10, 1)
        fix = (
            "use 9.10.1 or newer: older ones can be made to read files and run code (CVE-2026-22022 among others)"
            if old
            else ""
        )
        checks.append(_check("Solr", "bad" if old else "good", f"{version} at {settings.solr}", fix))
    else:
        checks.append(
            _check("Solr", "missing", f"nobody answers at {settings.solr}", "scripts/services up solr")
        )
    if settings.store.startswith("hdfs://"):
        from storage.store import open_store

        store = open_store(settings.store, settings.webhdfs or None)
        told = get_json(f"{store.webhdfs}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState")
        alive = told["beans"][0].get("NumLiveDataNodes", 0) if told and told.get("beans") else 0
        if not told:
            checks.append(
                _check("HDFS", "bad", f"no NameNode answers at {store.webhdfs}", "scripts/services up hdfs")
            )
        elif not alive:
            checks.append(
                _check(
                    "HDFS", "bad", f"{store.webhdfs} has no live DataNode", "start a DataNode; see its log"
                )
            )
        else:
            checks.append(_check("HDFS", "good", f"{counted(alive, 'DataNode')} live at {store.webhdfs}"))
    return checks


def _store(settings: Settings) -> dict:
    from storage import layout
    from storage.store import open_store

    try:
        store = open_store(settings.store, settings.webhdfs or None)
        count = len(store.list(layout.CORPORA))
    except TinyTagsError as error:
        return _check("store", "bad", str(error), "check the setting store (TINYTAGS_STORE)")
    folder = _existing(settings.store)
    if folder and not os.access(folder, os.W_OK):
        return _check(
            "store",
            "bad",
            f"{folder} may not be written by this user",
            f"chmod u+w {folder}, or set TINYTAGS_STORE",
        )
    return _check("store", "good", f"{store.url()}, {count} {'corpus' if count == 1 else 'corpora'}")


def _disk(settings: Settings) -> dict:
    folder = _existing(settings.store) or Path.cwd()
    free = shutil.disk_usage(folder).free
    what = f"{free / 1e9:,.1f} GB free at {folder}"
    if free < DISK_BYTES:
        return _check("disk", "bad", what, "free some, or set TINYTAGS_STORE to a larger one")
    return _check("disk", "good", what)


def _existing(store: str) -> Path | None:
    """Return the local store's folder, or the nearest one above it that there is."""
    if "://" in store:
        return None
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _numbers(version: str) -> tuple[int, ...]:
    with contextlib.suppress(ValueError):
        return tuple(int(part) for part in version.split(".")[:3])
    return (0,)
