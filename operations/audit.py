"""Checks the versions of Python packages and jars against known vulnerabilities: ``make audit``.

OSV (https://osv.dev) knows those of both. Where it can't be reached, pip-audit asks PyPI about the Python packages, from an
environment of its own that is removed again. What neither has checked is listed with the dates of its versions.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click
import urllib3

from conf.command import note, run
from conf.errors import TinyTagsError
from conf.wording import counted
from operations.services import fetch_jars
from operations.services.registry import SERVICES

ROOT = Path(__file__).parents[1]
OSV = "https://api.osv.dev/v1/querybatch"
NOT_CHECKED = 3
# Jars without their Maven coordinates inside, by the start of their name.
GROUPS = {
    "asm": "org.ow2.asm", "bc": "org.bouncycastle", "guice": "com.google.inject", "json-path": "com.jayway.jsonpath",
    "json4s": "org.json4s", "lucene": "org.apache.lucene", "netty": "io.netty", "scala": "org.scala-lang",
    "snappy-java": "org.xerial.snappy", "solr": "org.apache.solr", "spark": "org.apache.spark",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Component:
    """A package or jar; ``name`` is GROUP:ARTIFACT for a jar, or only its artifact where the group isn't known."""

    ecosystem: str  # OSV's name: PyPI or Maven
    name: str
    version: str
    date: str = ""  # of a jar's newest file, YYYY-MM-DD; "" where builds leave it out


@click.command("audit")
def main() -> None:
    """Check the versions of all Python packages and jars against known vulnerabilities.

    Exit codes: 0 nothing known; 1 vulnerabilities; 3 not everything could be checked, and nothing was found in the rest.
    """
    components = sorted({*packages(), *jars()})
    note(f"audit: {counted(len(components), 'version')} of Python packages and jars")
    unchecked = components
    vulnerable: dict[Component, list[str]] = {}
    for name, check in (("OSV", query_osv), ("pip-audit", run_pip_audit)):
        try:
            answers = check(unchecked)
        except (TinyTagsError, OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            note(f"audit: {name} can't be used here ({type(error).__name__})")
            continue
        vulnerable |= {component: ids for component, ids in answers.items() if ids}
        unchecked = [component for component in unchecked if component not in answers]
    for component, ids in sorted(vulnerable.items()):
        click.echo(f"{component.name} {component.version}: {', '.join(ids)}")
    if unchecked:
        click.echo("\n".join(_rows(unchecked)))
    checked = len(components) - len(unchecked)
    click.echo(
        f"{checked:,} of {len(components):,} versions checked, {len(vulnerable):,} with known vulnerabilities"
    )
    raise click.exceptions.Exit(1 if vulnerable else NOT_CHECKED if unchecked else 0)


def packages() -> Iterator[Component]:
    """Yield the Python packages of constraints.txt, which `make setup` installs."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, equals, version = line.partition("#")[0].strip().partition("==")
        if equals:
            yield Component("PyPI", name, version)


def jars() -> Iterator[Component]:
    """Yield the jars of the servers, fetched where they aren't there, and those inside PySpark."""
    folders = [fetch_jars(service.pom, service.profile) for service in SERVICES if service.pom]
    folders += [Path(str(metadata.distribution("pyspark").locate_file("pyspark/jars")))]
    for path in (path for folder in folders for path in folder.glob("*.jar")):
        yield _jar(path)


def query_osv(components: list[Component]) -> dict[Component, list[str]]:
    """Return the ids of the vulnerabilities of each component that OSV can know: not of jars without a group."""
    known = [component for component in components if component.ecosystem == "PyPI" or ":" in component.name]
    queries = [
        {"package": {"ecosystem": component.ecosystem, "name": component.name}, "version": component.version}
        for component in known
    ]
    answer = urllib3.request("POST", OSV, json={"queries": queries}, timeout=60, retries=False)
    if answer.status != 200:
        raise TinyTagsError(f"{OSV} answers {answer.status}")
    results = answer.json()["results"]
    ids = [[entry["id"] for entry in result.get("vulns", [])] for result in results]
    return dict(zip(known, ids, strict=True))


def run_pip_audit(components: list[Component]) -> dict[Component, list[str]]:
    """Return the ids of the vulnerabilities of the Python packages that PyPI knows, by pip-audit."""
    known = {
        (component.name, component.version): component
        for component in components
        if component.ecosystem == "PyPI"
    }
    if not known:
        return {}
    with tempfile.TemporaryDirectory(prefix="tinytags-audit-") as folder:
        venv.create(folder, with_pip=True)
        listed = Path(folder, "versions.txt")
        listed.write_text("".join(f"{name}=={version}\n" for name, version in known))
        command = [f"{folder}/bin/python", "-m", "pip", "install", "-q", "pip-audit"]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            raise TinyTagsError("pip can't install pip-audit")
        command = [f"{folder}/bin/pip-audit", "-r", str(listed), "--no-deps", "--disable-pip", "-f", "json"]
        done = subprocess.run(command, capture_output=True, text=True)  # exit code 1 where it finds something
        return {
            known[entry["name"], entry["version"]]: [vulnerability["id"] for vulnerability in entry["vulns"]]
            for entry in json.loads(done.stdout)["dependencies"]
            if "skip_reason" not in entry
        }


def _jar(path: Path) -> Component:
    """Return what a jar is, from Maven's properties in it, else from its name."""
    with zipfile.ZipFile(path) as archive:
        newest = max((entry.date_time[:3] for entry in archive.infolist()), default=(1980, 1, 1))
        for name in archive.namelist():
            if name.endswith("/pom.properties"):
                lines = archive.read(name).decode(errors="replace").splitlines()
                values = dict(line.split("=", 1) for line in lines if "=" in line)
                # A jar with others inside has the properties of each.
                if f"{values.get('artifactId')}-{values.get('version')}" == path.stem:
                    return Component(
                        "Maven",
                        f"{values['groupId']}:{values['artifactId']}",
                        values["version"],
                        _date(newest),
                    )
    matched = re.fullmatch(r"(.+?)-(\d.*)", path.stem)
    artifact, version = matched.groups() if matched else (path.stem, "")
    group = next((group for start, group in GROUPS.items() if artifact.startswith(start)), None)
    return Component("Maven", f"{group}:{artifact}" if group else artifact, version, _date(newest))


def _date(newest: tuple[int, ...]) -> str:
    """Return a date; "" for one of the fixed ones of reproducible builds."""
    year, month, day = newest
    return "" if (month, day) in ((1, 1), (2, 1)) and year in (1980, 2010) else f"{year}-{month:02}-{day:02}"


def _rows(components: list[Component]) -> Iterator[str]:
    yield "not checked:"
    for component in components:
        date = component.date or (_uploaded(component) if component.ecosystem == "PyPI" else "")
        yield f"  {component.ecosystem:6} {component.name} {component.version} {date or 'date unknown'}"


def _uploaded(component: Component) -> str:
    """Return when a version was uploaded to pip's index; "" where the index doesn't answer or doesn't say."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        answer = urllib3.request("GET", f"{index}/{component.name.lower()}/", headers=headers, timeout=20)
        versions = [file for file in answer.json()["files"] if f"-{component.version}-" in file["filename"]]
        return min(str(file["upload-time"])[:10] for file in versions)
    except (urllib3.exceptions.HTTPError, ValueError, KeyError):
        return ""


if __name__ == "__main__":
    run(main)
