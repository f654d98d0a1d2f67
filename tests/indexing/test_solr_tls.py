"""Tests of a Solr behind TLS and a password, as a real nginx has them: own CA, wrong certificates, no TLS."""

import subprocess
import time
from types import SimpleNamespace

import pytest
from nginx import running_nginx
from small_runs import documents, indexed, make_run

from conf.settings import Settings
from indexing.index import index_run
from indexing.solr import Solr
from indexing.solr_errors import SolrError, TlsError
from indexing.verify import verify_run
from operations.doctor import examine
from operations.services import free_port
from storage.store import open_store

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def secured(solr, tmp_path_factory):
    """Addresses of the Solr behind TLS: ``url`` and with its user and password ``login``; ``ca`` is the file of its CA."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=solr", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "users").write_text("ada:{PLAIN}correct horse\n")
    servers = f"""server {{
        listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/ca.pem; ssl_certificate_key {folder}/key.pem;
        client_max_body_size 100m; auth_basic Solr; auth_basic_user_file {folder}/users;
        location / {{ proxy_pass {solr.url.removesuffix("/solr")}; }}
    }}"""

    def answers() -> bool:
        with pytest.raises(SolrError) as caught:
            Solr(f"https://127.0.0.1:{port}/solr", patience=0).collections()
        return isinstance(caught.value, TlsError)

    with running_nginx(folder, servers, answers):
        address = f"127.0.0.1:{port}/solr"
        yield SimpleNamespace(
            url=f"https://{address}",
            login=f"https://ada:correct%20horse@{address}",
            ca=str(folder / "ca.pem"),
        )


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_run_is_indexed_and_verified_over_tls_with_a_password_and_an_own_ca(
    secured, tmp_path, monkeypatch, variable
):
    monkeypatch.setenv(variable, secured.ca)
    store, client = open_store(str(tmp_path)), Solr(secured.login)
    run = make_run(store, partitions=2)
    try:
        assert index_run(store, run.name, client, "tls", publication="no")["complete"]
        assert indexed(client, run) == documents(store, run)
        assert verify_run(store, run.name, client)["documents"] == len(documents(store, run))
        with pytest.raises(SolrError) as caught:
            Solr(secured.url, patience=60).collections()
        assert caught.value.status == 401
        (check,) = [
            check for check in examine(Settings(solr=secured.login))["checks"] if check["name"] == "Solr"
        ]
        assert check["state"] == "good"
    finally:
        client.delete(run.name)


def test_a_certificate_that_is_not_trusted_is_one_line_at_once_and_doctor_reports_it(secured, monkeypatch):
    began = time.monotonic()
    for file in (None, "/nowhere/ca.pem"):
        if file:
            monkeypatch.setenv("SSL_CERT_FILE", file)
        with pytest.raises(TlsError) as caught:
            Solr(secured.login, patience=180).collections()
        assert ("/nowhere/ca.pem" in caught.value.fix) == bool(file)
    assert time.monotonic() - began < 60
    assert "horse" not in str(caught.value) and "\n" not in str(caught.value)
    (check,) = [check for check in examine(Settings(solr=secured.login))["checks"] if check["name"] == "Solr"]
    assert (check["state"], check["what"], check["fix"]) == ("bad", caught.value.what, caught.value.fix)


def test_a_certificate_of_another_host_and_an_answer_without_tls_are_one_line_at_once(
    secured, solr, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", secured.ca)
    for url in (secured.url.replace("127.0.0.1", "localhost"), solr.url.replace("http:", "https:")):
        with pytest.raises(TlsError) as caught:
            Solr(url, patience=180).collections()
        assert url in caught.value.what
