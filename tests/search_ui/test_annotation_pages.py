"""Every answer about annotations equals that of SQLite over the same CSV files, on made rows with odd names and on a real sample."""

import csv
import html
import io
import json
import os
import random
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import made_annotations
import pytest
from PIL import Image
from searchable import make_run, read_documents
from served import served

from conf.settings import Settings
from indexing import annotation_counts
from indexing.annotation_counts import read_counts, write_counts
from indexing.index import index_run
from indexing.index_annotations import index_annotations
from indexing.query.annotations import document_frequencies, read_index
from indexing.solr import Solr
from ingest.annotations.manifest import open_annotations
from ingest.corpus import open_corpus
from jobs.read_annotations import read_annotations
from jobs.split_dump import split_dump
from search_ui import create_app
from storage import layout
from storage.documents import read_documents as read_documents_of
from storage.store import open_store

# With 30,000, some 216,000 rows are made.
IMAGES = int(os.environ.get("TINYTAGS_ANNOTATION_IMAGES", "400"))
SHARED = os.environ.get("TINYTAGS_SHARED_DATA")
PATTERNS = ["%", "%a%", "under_score", "50% off", "%_%", "a*b?", "%\\%", "APPLE", "%LE", "%<b>%", "jaguar", "%(%", "İSTANBUL", "äPFEL", "man", "%table", "at", "h%s", "a%b", "nothing"]  # fmt: skip


def read_sql(folder: Path) -> sqlite3.Connection:
    """Read the CSV files by Python's own reader into tables; rows that are not as they should be are left out."""
    sql = sqlite3.connect(":memory:")
    sql.create_function("low", 1, lambda text: text.lower())
    sql.execute("PRAGMA case_sensitive_like = 1")
    sql.execute("CREATE TABLE classes (label, name)")
    sql.execute("CREATE TABLE labels (image, source, label, confidence REAL)")
    sql.execute("CREATE TABLE relations (image, class1, relation, class2, boxes)")
    for path in sorted(folder.rglob("*.csv")):
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
        rows = [one for line in lines for one in csv.reader([line.removesuffix("\r").replace("\r", "\0\0,")])]
        if not rows[0] or "XMin" in rows[0]:
            continue
        header = rows[0]
        if header[0].startswith("/m/"):
            sql.executemany("INSERT INTO classes VALUES (?, ?)", rows[:-1])
            continue
        for row in rows[1:]:
            if len(row) != len(header) or "" in row or "\x1f" in row[0]:
                continue
            one = dict(zip(header, row, strict=True))
            if "Confidence" in one:
                people = one["Source"] != "machine"
                if (one["Confidence"] not in ("0", "1", "1.0") and people) or "\n" in one["LabelName"]:
                    continue
                values = one["ImageID"], one["Source"], one["LabelName"], float(one["Confidence"])
                sql.execute("INSERT INTO labels VALUES (?, ?, ?, ?)", values)
            elif "Label" in one:
                sql.execute("INSERT INTO labels VALUES (?, '', ?, 1)", (one["ImageId"], one["Label"]))
            elif "Relation" in one:
                sql.execute("INSERT INTO relations VALUES (?, ?, ?, ?, '')", row)
            else:
                values = row[0], row[1], row[-1], row[2], str(row[3:-1])
                sql.execute("INSERT INTO relations VALUES (?, ?, ?, ?, ?)", values)
    sql.executescript(
        """
        CREATE VIEW present AS SELECT DISTINCT image, label FROM labels WHERE source != 'machine' AND confidence = 1;
        CREATE VIEW named AS SELECT DISTINCT image, label, coalesce(name, label) AS name FROM present LEFT JOIN classes USING (label);
        CREATE VIEW rows AS SELECT r.image, coalesce(a.name, class1) AS class1, relation, coalesce(b.name, class2) AS class2
            FROM (SELECT DISTINCT * FROM relations) r LEFT JOIN classes a ON a.label = class1 LEFT JOIN classes b ON b.label = class2;
        CREATE VIEW images AS SELECT image FROM labels UNION SELECT image FROM relations;
        """
    )
    return sql


@pytest.fixture(scope="module", params=["made", "sample"])
def annotated(request, solr, tmp_path_factory):
    """Annotations in the store and in Solr, the page's client, and the same rows in SQLite."""
    place = tmp_path_factory.mktemp("annotated")
    folder = place / "csv"
    if request.param == "made":
        made_annotations.make(folder, images=IMAGES)
    elif SHARED:
        folder = Path(SHARED) / "openimages"
    else:
        pytest.skip("TINYTAGS_SHARED_DATA is not set")
    settings = Settings(
        store=str(place / "store"), solr=solr.url, master="processes[1]", database="none", alias=f"annotated-{request.param}"
    )  # fmt: skip
    read_annotations(settings, str(folder), request.param, IMAGES * 250)
    client, store = Solr(solr.url, patience=60), open_store(settings.store)
    # So that about half of the answers come from the counts that are made with the index.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(annotation_counts, "LIVE_IMAGES", IMAGES // 8)
    indexed = index_annotations(store, request.param, client)
    assert indexed["complete"] and indexed["counted"]
    page = create_app(settings).test_client()

    def get(path, **parameters):
        answer = page.get(f"/api/annotations/{request.param}/{path}", query_string=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json

    def get_csv(path, **parameters):
        answer = page.get(f"/annotations/{request.param}/{path}.csv", query_string=parameters)
        assert answer.status_code == 200, answer.text
        text = answer.text
        answer.close()  # one export at a time
        return list(csv.reader(io.StringIO(text)))

    sql = read_sql(folder)
    names = [name for (name,) in sql.execute("SELECT DISTINCT name FROM named ORDER BY 1")]
    yield SimpleNamespace(
        name=request.param,
        get=get,
        csv=get_csv,
        sql=sql,
        page=page,
        names=names,
        settings=settings,
        folder=folder,
    )
    monkeypatch.undo()
    for part in open_annotations(store, request.param).sets:
        client.delete_alias(part.alias)
        client.delete(part.name)


def as_text(values) -> list[str]:
    """Return the cells of a row as CSV has them; a cell that a spreadsheet would execute begins with '."""
    cells = (";".join(value) if isinstance(value, list) else str(value) for value in values)
    return [f"'{cell}" if cell.startswith(tuple("=+-@\t\r\n|%")) else cell for cell in cells]


def test_classes_are_counted_by_images(annotated):
    wanted = annotated.sql.execute("SELECT name, label, count(*) FROM named GROUP BY label").fetchall()
    answer = annotated.get("classes")
    rows = [(one["class"], one["label"], one["images"]) for one in answer["classes"]]
    assert sorted(rows) == sorted(wanted) and answer["total"] == len(rows)
    assert [name.lower() for name, _, _ in rows] == sorted(name.lower() for name, _, _ in rows)
    most = annotated.get("classes", sort="images", limit=5, page=2)["classes"]
    assert [one["images"] for one in most] == sorted((row[2] for row in rows), reverse=True)[5:10]
    assert annotated.csv("classes")[1:] == [as_text(row) for row in rows]


def test_relations_are_counted_by_images_and_rows(annotated):
    wanted = annotated.sql.execute(
        "SELECT relation, count(DISTINCT image), count(*) FROM rows GROUP BY relation ORDER BY relation"
    ).fetchall()
    relations = annotated.get("relations")["relations"]
    assert [(one["relation"], one["images"], one["rows"]) for one in relations] == wanted
    assert annotated.csv("relations")[1:] == [as_text(row) for row in wanted]


def test_counts_are_the_same_while_the_index_still_has_documents_that_were_replaced(annotated):
    client, store = Solr(annotated.settings.solr, patience=60), open_store(annotated.settings.store)
    fields = {"images": ("classes", "classes"), "relations": ("relation", "relations")}
    before = [annotated.get(page) for _, page in fields.values()]
    for part in open_annotations(store, annotated.name).sets:
        field, _ = fields[part.kind]
        assert document_frequencies(client, part.alias, field)
        client.update(part.name, json.dumps([next(read_documents_of(store, part, 0))]).encode())
        client.commit(part.name)
        assert document_frequencies(client, part.alias, field) is None
    assert [annotated.get(page) for _, page in fields.values()] == before
    # They change with the index.
    images, _ = open_annotations(store, annotated.name).sets
    document = next(one for one in read_documents_of(store, images, 0) if one.get("classes"))
    client.update(images.name, json.dumps([document | {"classes": ["/m/new"]}]).encode())
    client.commit(images.name)
    assert annotated.get("classes") != before[0]
    client.update(images.name, json.dumps([document]).encode())
    client.commit(images.name)
    assert annotated.get("classes") == before[0]
    # The other tests are of counts made with the index.
    again = index_annotations(store, annotated.name, client)
    assert again["counted"] and again["images"]["posted"] == []
    assert read_counts(store, annotated.name).images_index == read_index(client, images.alias)


def expected_images(annotated, classes, every=False):
    """Return images by how many classes match, then by id, each with those and all of its classes."""
    having: dict[str, set[str]] = {}
    for image, name in annotated.sql.execute("SELECT DISTINCT image, name FROM named"):
        having.setdefault(image, set()).add(name)
    if not classes:
        images = [image for (image,) in annotated.sql.execute("SELECT image FROM images ORDER BY image")]
        return [(image, [], sorted(having.get(image, ()))) for image in images]
    marks = ",".join("?" * len(classes))
    rows = annotated.sql.execute(
        f"SELECT image, count(DISTINCT name) AS n FROM named WHERE name IN ({marks}) GROUP BY image"
        f" HAVING n >= ? ORDER BY n DESC, image",
        (*classes, len(classes) if every else 1),
    )
    return [
        (image, [name for name in classes if name in having[image]], sorted(having[image]))
        for image, _ in rows
    ]


def test_images_with_most_of_several_classes_come_first(annotated):
    draw = random.Random(1)
    searches = [[], *([name] for name in draw.sample(annotated.names, 2)), annotated.names[:50]]
    searches += [draw.sample(annotated.names, n) for n in (2, 3, 5)]
    for classes in searches:
        for every in (False, True):
            wanted = expected_images(annotated, classes, every)
            match = {"match": "all"} if every else {}
            answer = annotated.get("images", **{"class": classes}, **match, limit=100_000)
            assert answer["total"] == len(wanted)
            rows = [(one["image"], one["matching"], one["classes"]) for one in answer["images"]]
            assert rows == wanted, classes
            second = annotated.get("images", **{"class": classes}, **match, limit=7, page=2)
            assert [one["image"] for one in second["images"]] == [image for image, _, _ in wanted[7:14]]
    assert annotated.csv("images", **{"class": classes})[1:] == [
        as_text(row) for row in expected_images(annotated, classes)
    ]
    assert len(annotated.csv("images", limit=10)) == 11


def kinds_of(folder: Path, label: str) -> set[str]:
    """Return a class and all below it in the hierarchy's own tree, wherever it stands; parts are left out."""
    kinds = set()

    def walk(node, inside):
        inside = inside or node["LabelName"] == label
        if inside:
            kinds.add(node["LabelName"])
        for child in node.get("Subcategory", []):
            walk(child, inside)
        for child in node.get("Part", []):
            walk(child, False)

    walk(json.loads(next(folder.glob("*hierarchy.json")).read_text()), False)
    return kinds


def test_a_class_is_widened_to_all_kinds_of_it_by_option(annotated):
    tops = {"made": ["Apple", "O'Hara"], "sample": ["Animal", "Furniture"]}[annotated.name]
    wanted: dict[str, set[str]] = {}
    for top in tops:
        (label,) = annotated.sql.execute("SELECT label FROM classes WHERE name = ?", (top,)).fetchone()
        kinds = kinds_of(annotated.folder, label)
        assert len(kinds) > 2
        marks = ",".join("?" * len(kinds))
        for (image,) in annotated.sql.execute(
            f"SELECT DISTINCT image FROM present WHERE label IN ({marks})", tuple(kinds)
        ):
            wanted.setdefault(image, set()).add(top)
    for every in (False, True):
        match = {"match": "all"} if every else {}
        answer = annotated.get("images", **{"class": tops}, **match, descendants="1", limit=100_000)
        assert {one["image"]: set(one["matching"]) for one in answer["images"]} == {
            image: names for image, names in wanted.items() if not every or len(names) == 2
        }


def test_relations_are_searched_by_patterns(annotated):
    draw = random.Random(2)
    searches = [
        {part: draw.choice(PATTERNS) for part in draw.sample(["class1", "relation", "class2"], 2)}
        for _ in range(15)
    ]
    searches += [{part: pattern} for pattern in PATTERNS for part in ("class1", "relation", "class2")]
    searches += [{"class1": name} for name in draw.sample(annotated.names, 5)] + [{}]
    some = 0
    for patterns in searches:
        likes = {
            part: patterns.get(part, "%").lower().replace("\\", "\\\\").replace("_", "\\_")
            for part in ("class1", "relation", "class2")
        }
        wanted = annotated.sql.execute(
            "SELECT image, class1, relation, class2 FROM rows WHERE low(class1) LIKE ? ESCAPE '\\'"
            " AND low(relation) LIKE ? ESCAPE '\\' AND low(class2) LIKE ? ESCAPE '\\'",
            tuple(likes.values()),
        ).fetchall()
        answer = annotated.get("relation-search", **patterns, limit=100_000)
        rows = [tuple(one.values()) for one in answer["rows"]]
        assert sorted(rows) == sorted(wanted), patterns
        assert answer["total"] == len(wanted)
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        some += len(wanted) > 0
    assert some > 10
    assert annotated.csv("relation-search")[1:] == [as_text(row) for row in rows]


def test_after_an_escape_character_every_character_stands_for_itself(annotated):
    (percent,) = annotated.sql.execute("SELECT relation FROM rows ORDER BY relation = 'a%b' DESC").fetchone()
    for pattern, like in [("!%", "!%"), ("%!%%", "%!%%"), (percent.replace("%", "!%"), None), ("!!%", "!!%")]:
        like = pattern if like is None else like
        wanted = annotated.sql.execute(
            "SELECT count(*) FROM rows WHERE low(relation) LIKE ? ESCAPE '!'", (like.lower(),)
        )
        answer = annotated.get("relation-search", relation=pattern, escape="!")
        assert answer["total"] == wanted.fetchone()[0], pattern
    assert annotated.get("relation-search", relation=percent.replace("%", "!%"), escape="!")["total"] > 0


def test_answers_come_in_the_order_that_is_given(annotated):
    for part in ("class1", "relation", "class2"):
        for rows in (
            [tuple(one[name] for name in (part, "image")) for one in annotated.get("relation-search", sort=part, limit=100_000)["rows"]],
            [(row[("image", "class1", "relation", "class2").index(part)], row[0]) for row in annotated.csv("relation-search", sort=part)[1:]],
        ):  # fmt: skip
            lower = [(value.removeprefix("'").lower(), image) for value, image in rows]
            assert len(lower) > 50 and lower == sorted(lower)
    images = annotated.get("images", **{"class": annotated.names[:5], "sort": "id", "limit": 1000})["images"]
    assert [one["image"] for one in images] == sorted(one["image"] for one in images)
    assert annotated.name == "sample" or len({len(one["matching"]) for one in images}) > 1
    for key in ("images", "rows"):
        counts = [one[key] for one in annotated.get("relations", sort=key)["relations"]]
        assert counts == sorted(counts, reverse=True)


def test_names_are_suggested_from_all_that_there_are(annotated):
    known = {name for (name,) in annotated.sql.execute("SELECT name FROM classes")}
    for text in ("a", "APP", annotated.names[0], "nothing of this kind", ""):
        suggestions = annotated.get("suggestions", part="class", text=text)["suggestions"]
        having = {name for name in known if text.lower() in name.lower()}
        assert set(suggestions) <= having and len(suggestions) == min(len(having), 15)
        begins = [name.lower().startswith(text.lower()) for name in suggestions]
        assert begins == sorted(begins, reverse=True)
    types = {
        name
        for (name,) in annotated.sql.execute(
            "SELECT DISTINCT relation FROM rows WHERE low(relation) LIKE '%a%'"
        )
    }
    assert set(annotated.get("suggestions", part="relation", text="A")["suggestions"]) == types


def test_a_browser_adds_names_to_the_list_while_one_types(annotated, chromium):
    name = max(annotated.names, key=len)
    with served(create_app(annotated.settings)) as address:
        page = chromium.new_page(base_url=address)
        page.goto(f"/annotations/{annotated.name}/images?class=nothing")  # no image, so nothing is listed
        assert page.locator("#classes option").count() == 0
        with page.expect_response("**/suggestions?*"):
            page.get_by_label("Another class").press_sequentially(name[:4])
        listed = "name => [...document.querySelectorAll('#classes option')].some(one => one.value === name)"
        page.wait_for_function(listed, arg=name)
        page.close()


def test_an_image_has_its_labels_and_relations(annotated):
    draw = random.Random(3)
    images = [image for (image,) in annotated.sql.execute("SELECT image FROM images ORDER BY image")]
    with_relations = [
        image for (image,) in annotated.sql.execute("SELECT DISTINCT image FROM rows ORDER BY image")
    ]
    for image in [*images[:3], *draw.sample(images, 15), *draw.sample(with_relations, 5)]:
        answer = annotated.get(f"images/{image}")
        labels = annotated.sql.execute(
            "SELECT coalesce(name, label), source, confidence FROM labels LEFT JOIN classes USING (label) WHERE image = ?",
            (image,),
        ).fetchall()
        assert answer["present"] == sorted({n for n, source, c in labels if source != "machine" and c == 1})
        assert answer["absent"] == sorted({n for n, source, c in labels if source != "machine" and c == 0})
        assert {one["class"] for one in answer["machine"]} == {
            n for n, source, _ in labels if source == "machine"
        }
        assert all((one["class"], "machine", one["confidence"]) in labels for one in answer["machine"])
        relations = annotated.sql.execute(
            "SELECT class1, relation, class2 FROM rows WHERE image = ?", (image,)
        )
        assert sorted(tuple(one.values()) for one in answer["relations"]) == sorted(relations)
        assert len(annotated.csv(f"images/{image}")) == 1 + sum(
            len(answer[key]) for key in ("present", "absent", "machine", "relations")
        )


def test_an_image_is_shown_with_its_picture_and_the_tags_of_a_published_run(annotated, tmp_path):
    images = [image for (image,) in annotated.sql.execute("SELECT image FROM images ORDER BY image LIMIT 3")]
    for number, image in enumerate(images[:2]):
        Image.new("RGB", (40, 40), (100 * number, 0, 0)).save(tmp_path / f"{image}.png")
    # A bad record of the same name comes before its picture.
    (tmp_path / f"{images[1]}.jpg").write_bytes(b"no picture")
    settings, name = annotated.settings, f"pictures-{annotated.name}"
    split_dump(settings, str(tmp_path), name)
    store, client = open_store(settings.store), Solr(settings.solr, patience=60)
    run = make_run(store, open_corpus(store, name), "stumps", 10, seed=1)
    index_run(store, run.name, client, settings.alias)
    page = create_app(settings).test_client()  # the other one has cached that there are no corpora
    try:
        lines = read_documents(store, run)
        for row, image in zip((0, 2, None), images, strict=True):
            answer = page.get(f"/api/annotations/{annotated.name}/images/{image}").json
            assert answer["page"].endswith(image) and answer["page"].startswith("https://")
            text = page.get(f"/annotations/{annotated.name}/images/{image}").text
            assert 'src="http' not in text and answer["page"] in text
            if row is None:
                assert answer["pictures"] == [] and "<figure" not in text
                continue
            (picture,) = answer["pictures"]
            assert (picture["corpus"], picture["partition"], picture["row"]) == (name, 0, row)
            wanted = [one for one in lines if one["row"] == row]
            assert [tag["tag"] for tag in picture["tags"]] == [one["tag"] for one in wanted]
            assert page.get(picture["png"]).status_code == page.get(picture["url"]).status_code == 200
            assert picture["png"] in text
    finally:
        client.delete_alias(settings.alias)
        client.delete(run.name)


def test_what_is_wrong_in_an_address_is_one_line(annotated, tmp_path):
    (tmp_path / "labels.csv").write_text("ImageId,Label\na,/m/1\n")
    read_annotations(annotated.settings, str(tmp_path), "unindexed")
    base = f"/api/annotations/{annotated.name}"
    for path, status in {
        "/api/annotations/missing/classes": 404,
        "/api/annotations/unindexed/classes": 404,
        f"{base}/images/missing": 404,
        f"{base}/images?match=most": 400,
        f"{base}/images?colour=red": 400,
        f"{base}/images?limit=0": 400,
        f"{base}/images?limit=100001": 400,
        f"{base}/images?limit=1000&page=99999": 400,
        f"{base}/classes?sort=x": 400,
        f"{base}/relations?sort=x": 400,
        f"{base}/images?sort=image": 400,
        f"{base}/relation-search?escape=%25": 400,
        f"{base}/suggestions?part=image": 400,
        f"{base}/relation-search?class1=" + "x" * 501: 400,
    }.items():
        answer = annotated.page.get(path)
        assert (answer.status_code, set(answer.json)) == (status, {"error", "status"}), path


def follow(annotated, path):
    """Return the text of a page, and the number of its results."""
    answer = annotated.page.get(path)
    assert answer.status_code == 200, (path, answer.text)
    total = re.search(r"<h1><strong>([\d,]+)</strong>", answer.text)
    return answer.text, total and int(total[1].replace(",", ""))


def test_every_count_on_a_page_is_what_a_click_on_it_shows(annotated):
    base = f"/annotations/{annotated.name}"
    draw = random.Random(4)
    name = quote(annotated.names[1])
    followed = 0
    for path in (
        "images", f"images?class={name}", f"images?class={name}&relation=at", "relation-search", "relation-search?class1=%25a%25",
        "relation-search?relation=at",
    ):  # fmt: skip
        text, _ = follow(annotated, f"{base}/{path}")
        counts = re.findall(
            r'<a href="([^"]*)"[^>]*><span class="name">[^<]*</span><span class="count">([\d,]+)<', text
        )
        for url, count in draw.sample(counts, min(4, len(counts))):
            if "aria-current" not in text.partition(url)[2][:40]:
                assert follow(annotated, html.unescape(url))[1] == int(count.replace(",", "")), url
                followed += 1
    text, _ = follow(annotated, f"{base}/relations")
    for url, count in re.findall(r'<a href="([^"]*)">([\d,]+)<span class="hidden"> \w', text):
        assert follow(annotated, html.unescape(url))[1] == int(count.replace(",", "")), url
        followed += 1
    text, _ = follow(annotated, f"{base}/classes?sort=images")
    rows = re.findall(r'<a href="([^"]*)">[^<]*</a></th><td class="number">([\d,]+)<', text)
    for url, count in rows[:8]:
        if "Jaguar" not in url:  # two classes of one name: the link shows both
            assert follow(annotated, html.unescape(url))[1] == int(count.replace(",", "")), url
    assert followed > 12


def test_every_page_escapes_names_and_links_to_its_data(annotated):
    base = f"/annotations/{annotated.name}"
    for path in (
        "/annotations",
        f"{base}/tree",
        f"{base}/classes",
        f"{base}/relations",
        f"{base}/images?limit=500",
        f"{base}/relation-search?limit=500",
    ):
        text, _ = follow(annotated, path)
        assert "<b>bold" not in text
        if not path.endswith("tree"):
            assert "View JSON" in text
    image = annotated.sql.execute("SELECT image FROM rows GROUP BY image ORDER BY count(*) DESC").fetchone()[
        0
    ]
    text, _ = follow(annotated, f"{base}/images/{image}")
    assert '<svg class="graph"' in text and "relation-search?" in text


def test_answers_are_the_same_without_the_counts_that_are_made_with_the_index(annotated):
    store, client = open_store(annotated.settings.store), Solr(annotated.settings.solr, patience=60)
    path = layout.annotations_counts(annotated.name)
    counts = store.read_json(path)
    assert counts["of_class"] and counts["of_relation"]
    large = max(counts["of_class"], key=lambda label: counts["classes"][label])
    small = min(counts["classes"], key=lambda label: counts["classes"][label])
    assert small not in counts["of_class"]
    relation = max(counts["of_relation"], key=counts["relations"].get)
    rare = min(counts["relations"], key=counts["relations"].get)
    searches = [
        {},
        {"class": large},
        {"class": small},
        {"class": large, "relation": relation},
        {"relation": relation},
        {"relation": rare},
    ]
    searches += [
        {"class": large, "page": "2", "limit": "7"},
        {"class": "nothing"},
        {"relation": "nothing"},
        {"class": [large, small]},
        {"class": [large, small], "relation": relation},
        {"class": [large, small], "page": "50"},
        {"class": ["Apple", large], "descendants": "1"},
    ]
    first, *_ = max(counts["kinds"], key=lambda kind: kind[-1])
    name = annotated.sql.execute("SELECT name FROM classes WHERE label = ?", (first,)).fetchone()[0]
    related = [{}, {"class1": name}, {"class1": "%a%", "limit": "3", "page": "2"}, {"class2": "nothing"}]
    related += [{"relation": relation, "class2": "%e%", "sort": "class2"}, {"class1": name, "relation": "%"}]

    def texts():
        page = create_app(annotated.settings).test_client()
        base = f"/annotations/{annotated.name}"
        pages = [page.get(f"{base}/relation-search", query_string=one) for one in related]
        pages += [page.get(f"/api{base}/relation-search", query_string=one) for one in related]
        related_texts = [one.text for one in pages]
        pages = [page.get(f"{base}/images", query_string=one) for one in searches]
        pages += [page.get(f"/api{base}/images", query_string=one) for one in searches]
        pages += [page.get(f"{base}/classes"), page.get(f"{base}/relations")]
        return related_texts, [one.text for one in pages]

    before = texts()
    # In the same order, in which names are suggested.
    doubled = {label: 2 * count for label, count in counts["classes"].items()}
    wrong = counts | {"classes": doubled, "relations": {relation: 1}, "rows": {relation: 1}}
    wrong["kinds"] = [[*kind[:-1], kind[-1] + 1] for kind in counts["kinds"]]
    store.write_json(path, wrong)
    assert all(one != other for one, other in zip(texts(), before, strict=True))  # they are used
    # With too many kinds they are counted live.
    store.write_json(path, counts | {"kinds": None})
    assert texts() == before
    # After a kill before they were made, with a damaged file, and with those of another state of the index.
    store.remove(path)
    assert texts() == before
    store.write_bytes(path, b'{"classes": {"')
    assert texts() == before
    indexes = {key: [counts[key][0], 0, *counts[key][2:]] for key in ("images_index", "relations_index")}
    store.write_json(path, wrong | indexes)
    assert texts() == before
    assert write_counts(store, annotated.name, client) and store.read_json(path) == counts
