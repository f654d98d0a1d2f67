"""Tests of `operations.audit`: what a jar is, and what is reported as vulnerable or not checked."""

import http.server
import json
import threading
import zipfile

import pytest
from click.testing import CliRunner

from operations import audit
from operations.audit import NOT_CHECKED, Component


def jar(path, properties=None, date=(2024, 5, 6, 0, 0, 0)):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("A.class", date), b"")
        for group, artifact, version in properties or []:
            text = f"groupId={group}\nartifactId={artifact}\nversion={version}\n"
            name = f"META-INF/maven/{group}/{artifact}/pom.properties"
            archive.writestr(zipfile.ZipInfo(name, date), text)
    return path


def test_a_jar_is_known_by_its_own_properties_else_by_its_name(tmp_path):
    shaded = jar(tmp_path / "a-1.0.jar", [("org.inner", "b", "2.0"), ("org.outer", "a", "1.0")])
    assert audit._jar(shaded) == Component("Maven", "org.outer:a", "1.0", "2024-05-06")
    solr = jar(tmp_path / "solr-core-9.10.1.jar", date=(1980, 2, 1, 0, 0, 0))
    assert audit._jar(solr) == Component("Maven", "org.apache.solr:solr-core", "9.10.1", "")
    assert audit._jar(jar(tmp_path / "other-3.jar")).name == "other"


@pytest.fixture
def osv(monkeypatch):
    """A server that answers as OSV does, of which a and b are vulnerable; the list of what it was asked."""
    requested = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            requested.extend(query["package"]["name"] for query in queries)
            results = [
                {"vulns": [{"id": "CVE-1"}]} if query["package"]["name"] == "a" else {} for query in queries
            ]
            data = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(audit, "OSV", f"http://127.0.0.1:{server.server_port}/")
    yield requested
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("names", "code", "line"),
    [
        (["a", "c"], 1, "2 of 2 versions checked, 1 with known vulnerabilities"),
        (["c"], 0, "1 of 1 versions checked, 0 with known vulnerabilities"),
    ],
)
def test_a_known_vulnerability_is_exit_code_1(osv, monkeypatch, names, code, line):
    monkeypatch.setattr(audit, "packages", lambda: (Component("PyPI", name, "1") for name in names))
    monkeypatch.setattr(audit, "jars", lambda: iter(()))
    done = CliRunner().invoke(audit.main)
    assert done.exit_code == code and done.stdout.splitlines()[-1] == line
    assert osv == names


def test_what_can_not_be_checked_is_listed_and_no_success(monkeypatch):
    monkeypatch.setattr(audit, "OSV", "http://127.0.0.1:1/")
    monkeypatch.setattr(audit, "packages", lambda: iter(()))
    monkeypatch.setattr(audit, "jars", lambda: iter([Component("Maven", "x:y", "1", "2024-05-06")]))
    monkeypatch.setattr(audit, "run_pip_audit", lambda components: {})
    done = CliRunner().invoke(audit.main)
    assert done.exit_code == NOT_CHECKED
    assert "x:y 1 2024-05-06" in done.stdout and "0 of 1 versions checked" in done.stdout
