"""An archive of the Java classes that Solr loads when it starts: with it, a start takes little more than half the processor time.

As that of Spark, which `jobs.class_archive` makes: Java checks by itself that the archive belongs to it and to these jars, and
starts without it where not. `python -m operations.services jars`, which `scripts/setup` runs, makes one beside Solr's jars.
"""

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import urllib3

from conf.command import note
from conf.errors import TinyTagsError
from conf.java import java_command
from operations.services.java import class_archive, fetch_jars
from operations.services.ports import free_port
from operations.services.process import locked
from operations.services.service import CONF
from operations.services.solr import Solr

_DOCUMENT = b'[{"id":"1:0:0","tag":"frog","confidence":0.5}]'
MAKE_SECONDS = 300
_SEARCH = "select?q=tag:frog&sort=confidence+desc&json.facet={tags:{type:terms,field:tag}}"


def make_archive() -> None:
    """Make the archive of Solr's classes where there is none, or print a line that says why it could not be made."""
    try:
        java, jars = java_command(), fetch_jars(Solr.pom, Solr.profile)
        path = class_archive(java, jars)
        with locked(jars.parent / "lock"):
            for leftover in jars.parent.glob("making-*"):  # of one that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            if not path.exists():
                note("archiving Solr's Java classes, so that it starts sooner (once, half a minute, 80 MB)")
                with tempfile.TemporaryDirectory(prefix="making-", dir=jars.parent) as folder:
                    made = Path(folder, path.name)
                    _run(Path(folder, "solr"), made)
                    os.replace(made, path)
    except (OSError, TinyTagsError, urllib3.exceptions.HTTPError) as error:
        note(f"could not archive Solr's Java classes: {error}")


def _run(folder: Path, archive_file: Path) -> None:
    """Start Solr, let it load what a collection, a document and a search need, and stop it: Java writes the archive then."""
    solr = Solr(folder, free_port(1000), "512m", light=True)
    (daemon,) = solr.daemons
    daemon.options.append(f"-XX:ArchiveClassesAtExit={archive_file}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (CONF / "solr" / "tags").iterdir():
            archive.write(file, file.name)
    solr.start()
    try:
        for path, body in (
            ("admin/configs?action=UPLOAD&name=tags", packed.getvalue()),
            ("admin/collections?action=CREATE&name=tags&collection.configName=tags&numShards=1", b""),
            ("tags/update?commit=true", _DOCUMENT),
            (f"tags/{_SEARCH}", b""),
            ("admin/collections?action=DELETE&name=tags", b""),
        ):
            kind = "application/octet-stream" if "UPLOAD" in path else "application/json"
            answer = urllib3.request(
                "POST" if body else "GET", f"{solr.url}/{path}", body=body or None, headers={"Content-Type": kind},
                timeout=60, retries=False,
            )  # fmt: skip
            if answer.status >= 400:
                raise TinyTagsError(f"Solr answers {answer.status} to {path}")
    finally:
        daemon.stop(MAKE_SECONDS)
