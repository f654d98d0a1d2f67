"""Describes what a bench runs on: cores, memory and versions, without names."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import conf
from conf.errors import TinyTagsError
from conf.java import java_command

PACKAGES = ("numpy", "numba", "pyarrow", "pyspark", "scikit-learn", "onnxruntime", "hdfs", "pysolr")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def describe() -> dict:
    """Return cores, memory in GiB, load, and the versions that figures depend on; fit for JSON."""
    installed = {distribution.name.lower(): distribution.version for distribution in metadata.distributions()}
    pom = (Path(conf.__file__).parent / "solr" / "pom.xml").read_text()
    versions = {"python": platform.python_version(), "java": _java()}
    versions["solr"] = re.search(r"<solr.version>([^<]+)", pom)[1]
    return {
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions | {name: installed[name] for name in PACKAGES if name in installed},
    }


def _java() -> str:
    try:
        output = subprocess.run([java_command(), "-version"], capture_output=True, text=True).stderr
        return re.search(r'version "([^"]+)"', output)[1]
    except TinyTagsError:
        return "none"


def words(machine: dict) -> str:
    """Return the description as a line for people."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cores']} cores, {machine['memory_gib']} GiB; {versions}"


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
