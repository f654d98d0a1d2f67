"""Two server processes share one database: no prediction and no correction is lost, whichever of them stores it."""

import base64
import http.client
import io
import json
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from served import started

from conf.settings import Settings
from records.predictions import open_predictions

PICTURES = 40
PEOPLE = 4


def request(port, path, body, kind):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


@pytest.fixture
def database(request, tmp_path):
    """The URL of a new database, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    server = sa.make_url(request.getfixturevalue(request.param).url)
    engine = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE shared")
    engine.dispose()
    return server.set(database="shared").render_as_string(hide_password=False)


@pytest.mark.services
@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_two_servers_share_a_database_without_losing_a_row(database, library):
    settings = Settings(
        store=library.store.root, solr="http://127.0.0.1:1/solr", database=database, classify_rate="none", correction_rate="none"
    )  # fmt: skip
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG")
    picture = json.dumps({"image": base64.b64encode(file.getvalue()).decode(), "model": "ten"}).encode()

    def classify_and_correct(number):
        """Classify at one server and correct at the other; the first requests make the tables, at both at once."""
        here, there = ports if number % 2 else ports[::-1]
        status, data = request(here, "/api/classify", picture, "application/json")
        (result,) = json.loads(data)["results"]
        form = urllib.parse.urlencode({"label": "ship", "by": f"person {number}"}).encode()
        path = f"/history/{result['record']}/correction"
        corrected, _ = request(there, path, form, "application/x-www-form-urlencoded")
        return status, corrected, result["record"], f"person {number}"

    with ExitStack() as servers, ThreadPoolExecutor(PEOPLE) as people:
        ports = [servers.enter_context(started(settings))[1] for _ in range(2)]
        answers = list(people.map(classify_and_correct, range(PICTURES)))
    assert {answer[:2] for answer in answers} == {(200, 303)}
    stored = {one.number: (one.correction, one.corrected_by) for one in open_predictions(database).every()}
    assert stored == {number: ("ship", by) for _, _, number, by in answers} and len(stored) == PICTURES
