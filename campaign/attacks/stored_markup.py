"""Shows a run whose tags are markup in a browser; nothing of it is executed."""

import hashlib
import json
from dataclasses import replace
from urllib.parse import quote

from campaign.attack import NotRunError, Outcome
from campaign.place import Place
from operations.chromium import find_chromium
from storage import layout
from storage.runs import Run, create_run

MARKUP = (
    "<script>fired()</script>", '"><img src=x onerror=fired()>', "' onmouseover='fired()", "</title><svg onload=fired()>",
    "<iframe srcdoc='<script>parent.fired()</script>'>", "javascript:fired()", "{{fired()}}", "`-fired()-`", "<style>*{}</style>", "x",
)  # fmt: skip


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a call of ``fired``, or a script, style or picture that the browser was asked to load and refused."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NotRunError("Playwright is not installed; `scripts/setup test` does it") from None
    outcome, run = Outcome(progress=place.progress), _marked(place)
    place.must("index", run.name)
    targets = [
        "/",
        "/runs",
        "/about",
        *(f"/?tag={quote(word)}" for word in MARKUP),
        "/?sort=random",
        f"/?run={run.name}",
        "/images/markup/0/0",
    ]
    fired: list[str] = []
    with place.page() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.expose_function("fired", lambda: fired.append("executed"))
        page.on("dialog", lambda dialog: fired.append("a dialog"))
        page.on(
            "console",
            lambda message: fired.append(message.text) if "Content Security Policy" in message.text else None,
        )
        for number in range(tries):
            target = targets[number % len(targets)]
            page.goto(url + target)
            for link in page.locator("main a").all()[:3]:
                link.hover(force=True)
            outcome.count()
            for what in fired:
                outcome.lost(f"{target}: {what[:200]}")
            fired.clear()
        browser.close()
    place.drop(run)
    return outcome


def _marked(place: Place) -> Run:
    """Write a run whose tags are markup."""
    plain = place.make_run("plain-tags", 1, 200)
    run = replace(plain, corpus="markup", classes=list(MARKUP))
    create_run(place.store, run)
    lines = place.store.read_bytes(layout.run_tags(plain.name, 0)).decode()
    changed = []
    for document in map(json.loads, lines.splitlines()):
        tags = {
            key: MARKUP[plain.classes.index(document[key])] for key in ("tag", "runner_up") if key in document
        }
        document |= tags | {
            "id": document["id"].replace(plain.prefix, run.prefix),
            "corpus": run.corpus,
            "run": run.name,
        }
        changed.append(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    data = "".join(f"{line}\n" for line in changed).encode()
    statistics = place.store.read_json(layout.run_statistics(plain.name, 0))
    statistics |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    place.store.write_bytes(layout.run_tags(run.name, 0), data)
    place.store.write_json(layout.run_statistics(run.name, 0), statistics)
    return run
