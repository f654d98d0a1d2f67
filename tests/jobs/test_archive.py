"""Tests of `jobs.archive`: the zip for executors."""

import io
import zipfile

from jobs.archive import PACKAGES, ROOT, write_zip


def test_the_zip_brings_all_that_executors_import():
    buffer = io.BytesIO()
    write_zip(buffer)
    names = set(zipfile.ZipFile(buffer).namelist())
    for package in PACKAGES:
        assert {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")} <= names
    assert "tinytags.py" in names
