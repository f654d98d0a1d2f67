"""Builds the images, brings up conf/compose.yaml as a user does, and kills what it runs: nothing acknowledged is lost.

`make test-containers` runs it, and `make test` doesn't: it takes minutes. TINYTAGS_CONTAINERS=FOLDER keeps the images there.
"""

import base64
import io
import json
import os
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from engine import Engine, running_engine
from PIL import Image
from small_world import write_cifar

from operations.services import free_port

# The images are built for the first test.
pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
FILE = str(ROOT / "conf" / "compose.yaml")
SERVICES = ("page", "balancer", "database", "solr")
CASSANDRA = ("--profile", "cassandra")
UP_SECONDS = 180
CLIENTS = 2
PIPELINE = """set -e
tinytags ingest /dump --corpus small --partition-images 200
tinytags train --corpus small --model forest --trees 3 --engine scikit-learn
run=$(tinytags tag --corpus small --model forest --json | python -c 'import json, sys; print(json.load(sys.stdin)["run"])')
tinytags index "$run"
"""


class Project:
    """The containers of conf/compose.yaml, under a name of their own."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name, self.port = engine, name, free_port()
        self.environment = {
            "TINYTAGS_PORT": str(self.port), "TINYTAGS_SOLR_HEAP": "512m", "TINYTAGS_CLASSIFY_RATE": "none",
            "TINYTAGS_CORRECTION_RATE": "none",
        }  # fmt: skip

    def compose(self, *arguments: str) -> str:
        return self.engine.compose("-p", self.name, "-f", FILE, *arguments, environment=self.environment)

    def containers(self, service: str) -> list[str]:
        labels = (f"project={self.name}", f"service={service}", "oneoff=False")
        filters = [part for one in labels for part in ("--filter", f"label=com.docker.compose.{one}")]
        return self.engine.docker("ps", "-q", *filters).split()

    def inspect(self, container: str) -> dict:
        return json.loads(self.engine.docker("inspect", container))[0]

    def kill(self, container: str) -> None:
        os.kill(self.inspect(container)["State"]["Pid"], signal.SIGKILL)

    def address(self, page: str) -> str:
        (network,) = self.inspect(page)["NetworkSettings"]["Networks"].values()
        return f"http://{network['IPAddress']}:8000"

    def open(self, path: str, body: bytes | None = None, address: str = "", **headers: str):
        """Open a page, through the balancer where there is no ``address``."""
        url = (address or f"http://127.0.0.1:{self.port}") + path
        return urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30)

    def json(self, path: str, body: dict | None = None, address: str = ""):
        data = None if body is None else json.dumps(body).encode()
        with self.open(path, data, address, **{"Content-Type": "application/json"}) as answer:
            return json.load(answer)

    def wait(self, what) -> None:
        """Wait until ``what`` returns something true; an error of the network is no answer."""
        until = time.monotonic() + UP_SECONDS
        while True:
            try:
                if what():
                    return
            except OSError:  # an HTTPError, too
                pass
            assert time.monotonic() < until, self.compose("ps") + self.compose("logs", "--tail=20")
            time.sleep(0.3)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    if os.geteuid():
        pytest.skip("only root may start an engine for containers")
    folder = Path(os.environ.get("TINYTAGS_CONTAINERS") or tmp_path_factory.mktemp("containers"))
    began = time.monotonic()
    with running_engine(folder) as engine:
        print(f"containers: the engine and its base image: {time.monotonic() - began:.0f} s", flush=True)
        for service in (*SERVICES, "cassandra"):
            with timed(f"image {service}"):
                engine.docker(
                    "build", "--network=host", "--target", service, "-t", f"tinytags-{service}", str(ROOT)
                )
        project = Project(engine, f"tinytags-test-{os.getpid()}")
        try:
            with timed("from `compose up` to the first pages"):
                project.compose("up", "-d", "--no-build")
                for path in ("/healthz", "/api/history"):
                    project.wait(lambda path=path: project.open(path))
            yield project
        finally:
            project.compose(*CASSANDRA, "down", "-v", "-t", "10")


class timed:
    """Prints how long a step took."""

    def __init__(self, what: str) -> None:
        self.what, self.began = what, time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        print(f"containers: {self.what}: {time.monotonic() - self.began:.0f} s", flush=True)


@pytest.fixture(scope="module")
def published(project, tmp_path_factory):
    """The page with a corpus, a model and a run, all made by commands in a container without Java."""
    folder = tmp_path_factory.mktemp("dump") / "cifar"
    write_cifar(folder, 500, 100)
    for one in (folder, folder.parent, *folder.parents):
        if one.owner() == "root" and one.is_relative_to("/tmp/pytest-of-root"):
            one.chmod(0o755)  # the user of the container reads it
    with timed("ingest, train, tag and index in a container"):
        project.wait(lambda: project.json("/readyz") or True)
        project.compose("run", "--rm", "-T", "-v", f"{folder}:/dump:ro", "page", "sh", "-c", PIPELINE)
        project.wait(lambda: project.json("/api/search")["total"])
    return project


def test_both_pages_show_what_commands_in_a_container_have_published(published):
    pages = published.containers("page")
    assert len(pages) == 2
    answers = [published.json("/api/search", address=published.address(page)) for page in pages]
    assert answers[0]["total"] == answers[1]["total"] > 0
    with published.open(answers[0]["hits"][0]["png"]) as answer:
        assert answer.read(4) == b"\x89PNG"


def test_a_name_that_leads_here_is_refused_also_with_a_header_of_a_proxy(published):
    for forwarded in ({}, {"X-Forwarded-Host": "localhost"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            published.open("/", Host="evil.example.org", **forwarded)
        assert refused.value.code == 400
    published.open("/", **{"X-Forwarded-Host": "evil.example.org"}).close()


def test_containers_are_healthy_and_run_as_ordinary_users(published):
    containers = [one for service in SERVICES for one in published.containers(service)]
    assert len(containers) == 5
    for one in containers:
        assert published.engine.docker("exec", one, "id", "-u").strip() != "0"
    published.wait(
        lambda: {published.inspect(one)["State"]["Health"]["Status"] for one in containers} == {"healthy"}
    )


class Clients:
    """People who classify a picture and correct an image, again and again, and remember what was acknowledged."""

    def __init__(self, project: Project) -> None:
        self.project = project
        search = project.json("/api/search?per_page=30")
        self.hits, self.labels = search["hits"], [entry["tag"] for entry in search["tags"]]
        self.predictions, self.corrections, self.failures = [], [], Counter()
        file = io.BytesIO()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG")
        self.picture = {"image": base64.b64encode(file.getvalue()).decode()}

    def work(self, count: int, victim: str) -> Counter:
        """Work ``count`` times, and kill a container in the middle; return the failures."""
        before = self.failures.copy()
        with ThreadPoolExecutor(CLIENTS) as people:
            for number, _ in enumerate(people.map(self.one, range(count))):
                if number == count // 2:
                    self.project.kill(victim)
        return self.failures - before

    def one(self, number: int) -> None:
        try:
            record = self.project.json("/api/classify", self.picture)["results"][0]["record"]
            if record is None:
                self.failures["not recorded"] += 1
            else:
                self.predictions.append(record)
            hit, by = self.hits[number % len(self.hits)], f"person {len(self.predictions)} {number}"
            form = urllib.parse.urlencode({"label": self.labels[number % len(self.labels)], "by": by})
            self.project.open(f"{hit['url']}/corrections", form.encode()).close()
            self.corrections.append(by)
        except OSError as error:
            self.failures[getattr(error, "code", type(error).__name__)] += 1

    def check(self) -> None:
        """Check that everything acknowledged is in the database, once."""
        counts = f"{len(self.predictions)} predictions and {len(self.corrections)} corrections"
        print(f"containers: {counts} acknowledged, not: {dict(self.failures)}")
        with self.project.open("/history.jsonl") as answer:
            kept = [json.loads(line)["number"] for line in answer]
        assert set(self.predictions) - set(kept) == set() and len(set(kept)) == len(kept)
        images = [self.project.json(f"/api{hit['url']}")["corrections"] for hit in self.hits]
        assert set(self.corrections) - {one["by"] for corrections in images for one in corrections} == set()


def test_nothing_acknowledged_is_lost_when_a_page_or_the_database_is_killed(published):
    clients, pages = Clients(published), published.containers("page")
    # A request that the killed page had begun fails; all others go to the other page.
    assert clients.work(60, pages[0]).total() <= CLIENTS
    published.wait(lambda: published.json("/api/history", address=published.address(pages[0])))
    clients.work(60, published.containers("database")[0])
    wait_for_database(published)
    assert clients.work(60, pages[1]).total() <= CLIENTS
    published.wait(lambda: published.json("/api/history", address=published.address(pages[1])))
    assert len(clients.predictions) >= 100 and len(clients.corrections) >= 100
    clients.check()


def test_cassandra_in_place_of_postgresql_loses_nothing_acknowledged_either(published):
    published.environment["TINYTAGS_DATABASE"] = "cassandra://cassandra/tinytags"
    with timed("from `compose --profile cassandra up` to the first pages"):
        published.compose(*CASSANDRA, "up", "-d", "--no-build")
        wait_for_database(published)
    assert not any(published.json("/api/history", address=published.address(page))["records"]
                   for page in published.containers("page"))  # fmt: skip
    (cassandra,) = published.containers("cassandra")
    assert published.engine.docker("exec", cassandra, "id", "-u").strip() != "0"
    published.wait(lambda: published.inspect(cassandra)["State"]["Health"]["Status"] == "healthy")
    clients = Clients(published)
    clients.work(60, cassandra)
    wait_for_database(published)
    assert clients.work(60, published.containers("page")[0]).total() <= CLIENTS
    wait_for_database(published)
    assert len(clients.predictions) >= 60 and len(clients.corrections) >= 60
    clients.check()


def wait_for_database(project: Project) -> None:
    """Wait until all pages read from the database."""
    project.wait(
        lambda: all(
            project.json("/api/history", address=project.address(page)) for page in project.containers("page")
        )
    )
