"""Many users at once, who search, give labels to images and have pictures classified."""

import http.client
import io
import itertools
import time
from collections import defaultdict
from urllib.parse import urlencode, urlsplit

from PIL import Image

from bench.client import FORM
from bench.harness import UnequalError, percentile, single
from bench.machine import peak_bytes
from bench.rows.search import unseen_searches
from campaign.users import read, use
from indexing.index import index_run
from ingest.image import to_png

ALIAS = "users"
BOUNDARY = "picture"
# Of six requests: what users do again and again.
TURNS = ("search", "label", "search", "classify", "search", "label")


def measured(place):
    sizes = place.sizes
    corpus = place.split("users", sizes.users_images, max(sizes.users_images // 4, 1))
    words = (
        "--corpus",
        corpus.name,
        "--model",
        place.model,
        "--min-confidence",
        "0.1",
        "--master",
        "processes",
    )
    tagged = place.run_tinytags("tag", *words)
    index_run(place.store, tagged["run"], place.solr_client, ALIAS)
    database = f"sqlite:///{place.folder}/users.db"
    with place.page(ALIAS, None, "--database", database) as (url, pid):
        users = Users(place, corpus)
        for turn in range(len(TURNS)):  # what only the first requests wait for
            with_connection(url, users, turn)
        users.seconds.clear()
        place.note(f"{sizes.users} users for {sizes.users_seconds} s")
        _, failed = use(sizes.users_seconds, users.request, urlsplit(url).netloc, sizes.users)
        if failed:
            raise UnequalError(f"{len(failed)} requests of {sizes.users} users failed: {failed[0]}")
        about = {
            "users": sizes.users, "seconds": sizes.users_seconds, "searches": len(users.seconds["search"]),
            "labels": len(users.seconds["label"]), "pictures": len(users.seconds["classify"]),
        }  # fmt: skip
        for name, seconds in sorted(users.seconds.items()):
            yield single(f"users/{name}", 1000 * percentile(seconds, 95), **about)
        yield single("users/memory", peak_bytes(pid) / 1e6, **about)


def with_connection(url: str, users: "Users", number: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    users.request(connection, number)
    connection.close()


class Users:
    """The requests of all users, and how long each took."""

    def __init__(self, place, corpus) -> None:
        self.corpus, self.classes = corpus, place.forest.classes
        self.searches = [state.url() for state in itertools.islice(unseen_searches(self.classes, 9), 200)]
        self.pictures = [enlarged(image) for image in place.images(50)]
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def request(self, connection: http.client.HTTPConnection, number: int) -> None:
        """Send one request and wait for its answer; `OSError` for a status that isn't the right one."""
        turn, began = TURNS[number % len(TURNS)], time.perf_counter()
        getattr(self, turn)(connection, number)
        self.seconds[turn].append(time.perf_counter() - began)

    def search(self, connection: http.client.HTTPConnection, number: int) -> None:
        connection.request("GET", self.searches[number % len(self.searches)])
        read(connection)

    def label(self, connection: http.client.HTTPConnection, number: int) -> None:
        row = number % self.corpus.rows(0)[1]
        form = urlencode({"label": self.classes[number % len(self.classes)], "by": f"user {number % 50}"})
        path = f"/images/{self.corpus.name}/0/{row}/corrections"
        connection.request("POST", path, form.encode(), {"Content-Type": FORM})
        read(connection, (303,))

    def classify(self, connection: http.client.HTTPConnection, number: int) -> None:
        picture = self.pictures[number % len(self.pictures)]
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        connection.request("POST", "/api/classify", body, kind)
        if b'"record":null' in read(connection).replace(b" ", b""):
            raise OSError("a prediction was not recorded")


def enlarged(image) -> bytes:
    """Return a PNG file of 320 x 320 pixels, as a person uploads one, of an image of 3,072 bytes."""
    file = io.BytesIO()
    Image.open(io.BytesIO(to_png(image))).resize((320, 320)).save(file, "PNG")
    return file.getvalue()
