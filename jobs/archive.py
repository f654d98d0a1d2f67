"""Writes our packages as a zip, for ``spark-submit --py-files`` and for executors that have none installed."""

import zipfile
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("conf", "storage", "ingest", "tagging", "records", "jobs", "indexing", "search_ui", "operations")
# Sources, compiled kernels, and the files that servers and pages start from.
SUFFIXES = {".py", ".nbi", ".nbc", ".xml", ".cfg", ".properties", ".html", ".css", ".js"}


def write_zip(file: BinaryIO | Path) -> None:
    """Write our packages and their compiled kernels to ``file``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((ROOT / package).rglob("*")):
                if path.suffix in SUFFIXES:
                    archive.write(path, path.relative_to(ROOT))
        archive.write(ROOT / "tinytags.py", "tinytags.py")
