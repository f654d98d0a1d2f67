"""Tests of the page behind a real nginx, as docs/serving.md has it: below a path, over its links, forms and scripts; and as nginx is without settings."""

import contextlib
import re
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from flask import Response
from nginx import running_nginx

from operations.services import free_port
from search_ui import create_app, server

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
LINK = re.compile(r'(?:href|src|action|formaction|data-next|data-suggest)="([^"#]*)')
# A page for each template, and the files that the others link to.
PAGES = (
    "", "?page=2", "images/small/0/1?tag=frog&at=0", "classify", "label?tag=frog&show=search", "history", "runs", "models", "models/trained",
    "models/trained?with=deep", "about", "corrections", "annotations", "images/none/0/0", "api/search?per_page=30", "api/models",
)  # fmt: skip


@pytest.fixture(scope="module")
def nginx(settings, tmp_path_factory):
    """The addresses of nginx: with the settings of the documentation, and with none."""
    app = create_app(replace(settings, proxy="127.0.0.1", hosts="tags.example.org, .lan"))
    page = server.make_server(app, "127.0.0.1", 0, "127.0.0.1")
    thread = threading.Thread(target=page.run)
    thread.start()
    at = f"http://127.0.0.1:{page.effective_listen[0][1]}"
    documented = (ROOT / "docs" / "serving.md").read_text().split("```nginx\n")[1].split("```")[0]
    folder, ports = tmp_path_factory.mktemp("nginx"), (free_port(), free_port())
    servers = f"""
        server {{ listen 127.0.0.1:{ports[0]}; {documented.replace("http://127.0.0.1:8000", at)} }}
        server {{ listen 127.0.0.1:{ports[1]}; location / {{ proxy_pass {at}; }} }}
    """
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        with running_nginx(folder, servers, lambda: answers(addresses[1])):
            yield addresses
    finally:
        page.close()
        thread.join(20)


def answers(address: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{address}/healthz", timeout=10).ok
    return False


def test_every_link_of_every_page_is_below_the_path_of_the_proxy(nginx):
    base = f"{nginx[0]}/tags/"
    statuses: dict[str, int] = {}
    for page in PAGES:
        answer = requests.get(base + page, timeout=30)
        assert answer.status_code == (404 if "none" in page else 200), page
        links = LINK.findall(answer.text) + re.findall(r'"(?:url|png|next|toggle)": ?"([^"]*)', answer.text)
        assert links, page
        for link in map(unescape, links):
            url = urljoin(answer.url, link)
            assert url.startswith((base, "https://")), (page, link)
            kind = urlsplit(url).path.rstrip("/0123456789")
            if url.startswith(base) and kind not in statuses and "/export." not in url:
                statuses[kind] = requests.get(url, timeout=30).status_code
    assert len(statuses) > 30
    # The actions of forms take no GET; the fixtures' runs have an image and a model that the store has not.
    missing = {"/tags/images/none", "/tags/models/network"}
    assert {kind for kind, status in statuses.items() if status not in (200, 405)} <= missing
    # Werkzeug's own redirect, that of a form, and those of other clients than the proxy.
    for path in ("api//search", "?filter=yes&tag=frog"):
        assert requests.get(base + path, timeout=30).url.startswith(base)


def test_a_browser_searches_labels_and_corrects_below_the_path_of_the_proxy(nginx, chromium):
    context = chromium.new_context(base_url=nginx[0], viewport={"width": 1440, "height": 900})
    page, requested = context.new_page(), []
    page.on("request", lambda request: requested.append(urlsplit(request.url).path))
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto("/tags/?tag=frog")
    with page.expect_response("**/tags/?tag=*"):
        page.locator(".facet a").first.click()
    with page.expect_response("**/tags/api/runs"):
        page.goto("/tags/runs")
    page.goto("/tags/label?tag=frog&show=search")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your name").blur()
    with page.expect_response("**/tags/api/label") as stored:
        page.keyboard.press("1")
    assert stored.value.ok
    page.goto("/tags/images/small/0/1?tag=frog&at=0")
    page.get_by_label("Correct label").select_option("ship")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/tags/images/small/0/1?tag=frog&at=0#corrections")
    page.get_by_role("button", name="Undo").first.click()
    page.wait_for_url("**/tags/images/small/0/1?tag=frog&at=0#corrections")
    context.close()
    assert {path.split("/")[1] for path in requested} == {"tags"}


def test_without_settings_of_nginx_pages_of_our_names_may_send_forms_and_others_may_not(nginx):
    form = {"label": "ship", "by": "Ada"}
    for origin, status in (
        ("http://tags.example.org", 303), ("https://images.lan:8443", 303), ("http://other.example.org", 403),
        ("http://localhost:3000", 403), ("null", 403), ("http://[", 403),
    ):  # fmt: skip
        answer = requests.post(
            f"{nginx[1]}/images/small/0/2/corrections",
            form,
            headers={"Origin": origin},
            allow_redirects=False,
            timeout=30,
        )
        assert answer.status_code == status, origin


def test_prefix_and_scheme_are_read_from_requests_of_the_proxy_alone(page, settings):
    headers = {"X-Forwarded-Prefix": "/tags"}
    assert 'href="/runs"' in page.get("/", headers=headers).text
    app = create_app(replace(settings, proxy="192.0.2.1", password="correct horse"))
    lines = ['{"png": "/history/1.png"}\n', '{"png": "/history/2.png"}\n']
    app.add_url_rule("/lines", view_func=lambda: Response(iter(lines), mimetype="application/x-ndjson"))
    behind = app.test_client()
    assert 'href="/runs"' in behind.get("/", headers=headers).text
    proxy = {"headers": headers, "environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    assert 'href="/tags/runs"' in behind.get("/", **proxy).text
    assert behind.get("/lines", **proxy).text == "".join(lines).replace("/history", "/tags/history")
    for bad in ('/"><script>', "/a//b", "/x y"):
        assert 'href="/runs"' in behind.get("/", **proxy | {"headers": {"X-Forwarded-Prefix": bad}}).text
    refused = behind.post("/history/delete", **proxy | {"headers": headers | {"Referer": "http://localhost/tags/history?corrected=yes", "Sec-Fetch-Site": "same-origin"}})  # fmt: skip
    assert "/login?next=%2Fhistory%3Fcorrected%3Dyes" in refused.text, refused.status
    for scheme, secure in (("https", True), ("http", False)):
        answer = behind.post(
            "/login", data={"password": "correct horse", "name": "Ada"}, base_url=f"{scheme}://localhost"
        )
        assert ("Secure" in answer.headers["Set-Cookie"]) == secure, answer.status
