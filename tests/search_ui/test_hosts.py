"""Tests of `search_ui.hosts`: a page that an attacker's name leads to is never shown."""

import socket

import pytest

from conf.settings import Settings
from search_ui import create_app
from search_ui.hosts import accepted_hosts, is_accepted


@pytest.mark.parametrize(
    ("names", "listening", "accepted", "refused"),
    [
        ("", "", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"], ["evil.example", "127.0.0.2", "localhost.evil.example"]),
        ("", "127.0.0.1", ["localhost:1"], ["", "localhost:x", "local host", "@localhost", "[::1", "192.0.2.1"]),
        ("tags.example, .lab.example", "127.0.0.1", ["tags.example:443", "lab.example", "a.b.lab.example"],
         ["x.tags.example", "evillab.example", "192.0.2.1"]),
        ("", "192.0.2.7", ["192.0.2.7:8000", "localhost"], ["192.0.2.8", "evil.example"]),
        ("2001:db8::1", "2001:db8::7", ["[2001:db8::1]:1", "[2001:DB8::7]"], ["[2001:db8::8]"]),
        ("", "0.0.0.0", ["192.0.2.1:8000", "[2001:db8::1]", socket.gethostname()], ["evil.example", "1.2.3.4.evil.example"]),
        ("", "::", ["192.0.2.1"], ["evil.example"]),
        ("", "tags.local", ["tags.local:8000"], ["other.local"]),
    ],
)  # fmt: skip
def test_hosts_are_those_of_loopback_of_the_setting_and_where_the_page_listens(
    names, listening, accepted, refused
):
    hosts = accepted_hosts(names, listening)
    assert {host: is_accepted(host, hosts) for host in accepted + refused} == dict.fromkeys(
        accepted, True
    ) | dict.fromkeys(refused, False)


def test_another_host_gets_the_error_page_or_json_whatever_it_requests(tmp_path):
    page = create_app(Settings(store=str(tmp_path))).test_client()
    for path in ("/", "/healthz", "/nowhere", "/?min=1&max=2", "/static/style.css", "/export.csv"):
        answer = page.get(path, headers={"Host": "evil.example", "Accept": "text/html"})
        assert answer.status_code == 400 and "Unknown host" in answer.text, path
        assert "Location" not in answer.headers
    answer = page.get("/api/runs", headers={"Host": "evil.example:8000"})
    assert answer.status_code == 400 and "evil.example:8000" in answer.json["error"]
    post = page.post("/images/c/0/0/corrections", headers={"Host": "evil.example"})
    assert post.status_code == 400


def test_no_redirect_follows_the_host(tmp_path):
    page = create_app(Settings(store=str(tmp_path), hosts="*")).test_client()
    for path in ("", "//about", "/about/", "//evil.example/..", "/api//runs"):
        answer = page.get("/", headers={"Host": "evil.example"}, environ_overrides={"PATH_INFO": path})
        assert not answer.headers.get("Location", "/").startswith(("http", "//")), path
    answer = page.get("/api//runs?a=//b", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["Location"]) == (308, "/api/runs?a=//b")
