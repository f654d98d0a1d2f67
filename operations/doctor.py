"""Checks of everything that TinyTags needs: what is missing, and how to fix it."""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from conf.addresses import without_passwords
from conf.errors import TinyTagsError
from conf.settings import Settings
from conf.wording import counted

# Room for a corpus of 20,000 images with its tags and index.
DISK_BYTES = 1 << 30
OLDEST_SOLR = (9, 10, 1)
# How the address of a cluster of Spark's own begins.
_CLUSTER = "spark://"

Check = dict[str, str]


def examine(settings: Settings) -> dict[str, Any]:
    """Return {"healthy", "checks": [{"name", "state": "good" | "missing" | "bad", "what", "fix"}]}; writes nothing.

    "bad" keeps a step from running and makes the result unhealthy; "missing", such as a Solr that is not started, does not.
    """
    checks = [
        _python(),
        _packages(),
        _java(settings),
        _spark(settings),
        _solr(settings),
        *_hdfs(settings),
        _store(settings),
        _disk(settings),
    ]
    return {"healthy": all(check["state"] != "bad" for check in checks), "checks": checks}


def describe(result: dict[str, Any]) -> str:
    """Return the result of `examine` as lines for people."""
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
        lines.append("most steps can run; some need what is missing")
    else:
        lines.append("all checks passed")
    return "\n".join(lines)


def _check(name: str, state: str, what: str, fix: str = "") -> Check:
    return {"name": name, "state": state, "what": what, "fix": fix}


def _python() -> Check:
    return _check("Python", "good", f"{platform.python_version()} at {sys.executable}")


def _packages() -> Check:
    try:
        requirements = metadata.requires("tinytags") or []
    except metadata.PackageNotFoundError:  # run from a copy of the source, or from a zip
        requirements = []
    names = [re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line]
    # PySpark hands Arrow batches to Python only with pandas.
    names += ["pandas"] if importlib.util.find_spec("pyspark") else []
    installed, missing = [], []
    for name in names:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return _check(
            "packages", "bad", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}"
        )
    return _check("packages", "good", ", ".join(installed) or "tinytags itself is not installed")


def _java(settings: Settings) -> Check:
    from conf.java import MissingToolError, java_command
    from jobs.runner import runner_kind

    try:
        return _check("Java", "good", java_command())
    except MissingToolError as error:
        if not runner_kind(settings.master).spark:
            what = (
                f"{error.reason}; master {settings.master} needs none, but Solr and HDFS on this machine do"
            )
            return _check("Java", "missing", what, error.fix)
        return _check(
            "Java", "bad", error.reason, f"{error.fix}, or use --master processes, which needs no Java"
        )
    except TinyTagsError as error:
        return _check("Java", "bad", str(error))


def _spark(settings: Settings) -> Check:
    from jobs.environment import EnvironmentFaultError, check_master, local_folders
    from jobs.runner import runner_kind

    if not runner_kind(settings.master).spark:
        return _check("Spark", "good", f"not used by master {settings.master}")
    try:
        check_master(settings.master)
    except EnvironmentFaultError as error:
        return _check("Spark", "bad", error.what, error.fix)
    if settings.master.startswith(_CLUSTER) and not any(map(_answers, _hosts(settings.master))):
        return _check(
            "Spark",
            "bad",
            f"no master answers at {settings.master}",
            "start it, or set --master or TINYTAGS_MASTER",
        )
    for folder in local_folders():
        if (free := shutil.disk_usage(folder).free) < DISK_BYTES:
            what = f"{free / 1e9:,.1f} GB free at {folder}, for Spark's own files"
            return _check("Spark", "bad", what, "delete something, or set SPARK_LOCAL_DIRS to a larger disk")
    return _check("Spark", "good", f"{metadata.version('pyspark')}, master {settings.master}")


def _hosts(master: str) -> list[str]:
    """Return HOST:PORT of each master of a cluster of Spark's own, of which one leads the others."""
    return master.removeprefix(_CLUSTER).split(",")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _solr(settings: Settings) -> Check:
    from indexing.solr import Solr
    from indexing.solr_errors import SolrError, TlsError

    address = without_passwords(settings.solr)
    try:
        info = Solr(settings.solr, patience=0, timeout=5).read("admin/info/system", {}, key="lucene")
    except TlsError as error:
        return _check("Solr", "bad", error.what, error.fix)
    except SolrError as error:
        if error.status is None:
            return _check("Solr", "missing", f"no answer at {address}", "scripts/services up solr")
        login = (
            ", with its user and password (http://USER:PASSWORD@HOST...)"
            if error.status in (401, 403)
            else ""
        )
        fix = f"set --solr or TINYTAGS_SOLR to Solr's address, as http://HOST:8983/solr{login}"
        return _check("Solr", "bad", str(error), fix)
    if info.get("mode", "solrcloud") != "solrcloud":
        return _check(
            "Solr",
            "bad",
            f"{address} does not run in SolrCloud mode",
            "start it with ZooKeeper: bin/solr start",
        )
    version = info.get("lucene", {}).get("solr-spec-version", "of unknown version")
    what = f"{version} at {address}"
    if _numbers(version) < OLDEST_SOLR:
        oldest = ".".join(map(str, OLDEST_SOLR))
        fix = f"use {oldest} or newer: older ones let attackers read files and run code (CVE-2026-22022 and others)"
        return _check("Solr", "bad", what, fix)
    return _check("Solr", "good", what)


def _hdfs(settings: Settings) -> list[Check]:
    from operations.services.hadoop import get_bean
    from storage.hdfs import HdfsStore
    from storage.store import store_of

    try:
        store = store_of(settings)
    except TinyTagsError:  # the check of the store reports it
        return []
    if not isinstance(store, HdfsStore):
        return []
    state, address = (
        get_bean(store.webhdfs, "NameNode,name=FSNamesystemState"),
        without_passwords(store.webhdfs),
    )
    if state is None:
        check = _check("HDFS", "bad", f"no NameNode answers at {address}", "scripts/services up hdfs")
    elif not (live := state.get("NumLiveDataNodes", 0)):
        check = _check("HDFS", "bad", f"{address} has no live DataNode", "start a DataNode; see its log")
    else:
        check = _check("HDFS", "good", f"{counted(live, 'live DataNode')} at {address}")
    return [check]


def _store(settings: Settings) -> Check:
    from storage import layout
    from storage.store import store_of

    try:
        store = store_of(settings)
        count = len(store.list(layout.CORPORA))
    except TinyTagsError as error:
        return _check("store", "bad", str(error), "check the setting store (TINYTAGS_STORE)")
    folder = _existing(settings.store)
    if folder and not os.access(folder, os.W_OK):
        return _check(
            "store",
            "bad",
            f"{folder} is not writable by this user",
            f"chmod u+w {folder}, or set TINYTAGS_STORE",
        )
    return _check("store", "good", f"{store.url()}, {count} {'corpus' if count == 1 else 'corpora'}")


def _disk(settings: Settings) -> Check:
    folder = _existing(settings.store) or Path.cwd()
    free = shutil.disk_usage(folder).free
    what = f"{free / 1e9:,.1f} GB free at {folder}"
    if free < DISK_BYTES:
        return _check("disk", "bad", what, "delete something, or set TINYTAGS_STORE to a larger disk")
    return _check("disk", "good", what)


def _existing(store: str) -> Path | None:
    """Return the local store's folder, or its nearest parent that exists; None for a remote store."""
    if "://" in store:
        return None
    folder = Path(store).absolute()
    while not os.path.exists(folder):  # unlike Path.exists false in a folder that may not be entered
        folder = folder.parent
    return folder


def _numbers(version: str) -> tuple[int, ...]:
    with contextlib.suppress(ValueError):
        return tuple(int(part) for part in version.split(".")[:3])
    return (0,)
