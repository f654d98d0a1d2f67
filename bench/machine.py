"""Says what a bench ran on: cores, memory and versions; nothing that tells one machine from another of its kind."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import conf

PACKAGES = ("numpy", "numba", "pyarrow", "pyspark", "scikit-learn", "onnxruntime", "hdfs", "pysolr")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict:
    """Cores, memory in GiB, how busy it was, and the versions that figures depend on; fit for JSON."""
    return {
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "load": round(os.getloadavg()[0], 1),
        "versions": {
            "python": platform.python_version(),
            "java": _java(),
            "solr": _solr(),
            **{name: version for name in PACKAGES if (version := _version(name))},
        },
    }


def words(machine: dict) -> str:
    """One line for people."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cores']} cores, {machine['memory_gib']} GiB; {versions}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    try:
        said = subprocess.run(
            [f"{home}/bin/java" if home else "java", "-version"], capture_output=True, text=True
        )
    except OSError:
        return "none"
    found = re.search(r'version "([^"]+)"', said.stderr)
    return found[1] if found else "unknown"


def _solr() -> str:
    pom = Path(conf.__file__).parent / "solr" / "pom.xml"
    return re.search(r"<solr.version>([^<]+)", pom.read_text())[1]


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has held resident so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
