"""Tests of reading annotations: every layout, ranges of any size, bad rows with their places, and restarts."""

import json
import signal
from pathlib import Path

import made_annotations
import pytest
from small_world import MASTER, finish, run, start, stop_group, wait_until

import tinytags
from conf.errors import LeaseHeldError, TinyTagsError
from conf.settings import Settings
from indexing.index_annotations import verify_annotations
from ingest.annotations.layouts import recognise
from ingest.annotations.manifest import open_annotations, scan
from jobs.read_annotations import check, read_annotations
from storage import layout
from storage.documents import documents_file
from storage.lease import lease
from storage.store import open_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations")
    return folder / "csv", made_annotations.make(folder / "csv")


def read(place, folder, size=None, name="made"):
    settings = Settings(store=str(place), master="processes[1]")
    return open_store(settings.store), read_annotations(settings, str(folder), name, size)


@pytest.fixture(scope="module")
def small(made, tmp_path_factory):
    """The store and the result of reading in small ranges."""
    return read(tmp_path_factory.mktemp("small"), made[0], 4_001)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More rows, so that a command has time to be killed in, and their documents when it isn't."""
    place = tmp_path_factory.mktemp("many")
    made_annotations.make(place / "csv", 2_000)
    store, _ = read(place / "store", place / "csv")
    return place / "csv", documents(store)


def documents(store, name="made"):
    """Return the documents of a set in order, without their partition."""
    by_kind = {}
    for part in open_annotations(store, name).sets:
        lines = b"".join(
            store.read_bytes(f"{part.documents_folder}/{file}") for file in store.list(part.documents_folder)
        )
        rows = [json.loads(line) for line in lines.splitlines()]
        by_kind[part.kind] = sorted((row | {"partition": None} for row in rows), key=lambda row: row["id"])
    return by_kind


@pytest.mark.slow
def test_ranges_of_any_size_give_the_same_documents_and_a_row_belongs_to_one(made, small, tmp_path):
    folder, bad = made
    whole_store, whole = read(tmp_path, folder)
    small_store, small = small
    assert whole["ranges"] == 5 and small["ranges"] > 20 and whole["bad"] == small["bad"] == bad
    assert documents(whole_store) == documents(small_store)
    for key in (
        "label_rows",
        "relation_rows",
        "images",
        "relations",
        "duplicate_labels",
        "duplicate_relations",
        "unknown",
    ):
        assert whole[key] == small[key] > 0
    places = [
        {(row["file"], row["line"], row["byte"], row["row"]) for row in one["bad_rows"]}
        for one in (whole, small)
    ]
    assert places[0] == places[1]


def test_bad_rows_are_listed_with_their_place_in_the_file(small):
    _, result = small
    for row in result["bad_rows"]:
        data = Path(row["file"]).read_bytes()
        assert data[row["byte"] :].startswith(row["row"].encode())
        assert data[: row["byte"]].count(b"\n") == row["line"] - 1
    assert {row["row"] for row in result["bad_rows"]} == set(made_annotations.BAD_ROWS)


def test_a_repeated_command_does_what_is_left(made, tmp_path):
    folder, _ = made
    store, first = read(tmp_path, folder, 20_000)
    files = documents(store)
    store.remove(layout.statistics(layout.annotations_rows_folder("made"), 2))
    images = open_annotations(store, "made").documents("images")
    store.remove(layout.statistics(images.folder, 0))
    _, again = read(tmp_path, folder, 20_000)
    assert (again["ranges_read"], again["partitions_written"]) == (1, 1)
    assert documents(store) == files
    assert {**again, "seconds": 0} == {**first, "seconds": 0, "ranges_read": 1, "partitions_written": 1}
    with lease(store, layout.annotations_lease("made"), "x"), pytest.raises(TinyTagsError):
        read(tmp_path, folder, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_killed_it_does_what_is_left_and_gives_the_same_documents(end, code, many, tmp_path):
    """Killed in the rows, in the documents of a second time, and then left alone."""
    folder, expected = many
    store = open_store(str(tmp_path))
    words = (
        "annotations",
        folder,
        "--name",
        "made",
        "--no-index",
        "--master",
        "processes[1]",
        "--store",
        tmp_path,
    )
    rows, images = layout.annotations_rows_folder("made"), f"{layout.annotations_folder('made')}/images"
    for statistics in (layout.statistics_folder(rows), layout.statistics_folder(images)):
        process = start(*words)
        wait_until(lambda at=statistics: store.list(at), process)
        stop_group(process, end)
        finish(process, code)
    run("annotations", str(folder), "--name", "made", "--no-index", "--store", str(tmp_path))
    assert documents(store) == expected
    assert not verify_annotations(store, "made", None)["problems"]


def test_spark_writes_the_same_files(made, tmp_path, spark):
    _, first = read(tmp_path / "processes", made[0], 20_000)
    settings = Settings(store=str(tmp_path / "spark"), master=MASTER)
    again = read_annotations(settings, str(made[0]), "made", 20_000)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    stores = [open_store(str(tmp_path / name)) for name in ("processes", "spark")]
    assert documents(stores[0]) == documents(stores[1])


def test_the_command_reads_without_solr_and_lists_bad_rows(made, tmp_path, capsys):
    arguments = ["annotations", str(made[0]), "--name", "made", "--no-index", "--store", str(tmp_path)]
    with pytest.raises(SystemExit) as left:
        tinytags.main([*arguments, "--master", "processes[1]"])
    printed = capsys.readouterr()
    assert (
        left.value.code == 0
        and "train-human-imagelabels.csv:" in printed.out
        and "13 bad rows" in printed.out
    )
    assert "boxes.csv: is not read" in printed.err


def test_a_range_that_cannot_be_read_fails_alone_and_is_done_later(made, tmp_path, monkeypatch):
    folder, _ = made
    settings = Settings(store=str(tmp_path), master="processes[1]")
    store = open_store(settings.store)
    blocked = Path(store.url(layout.annotations_rows("made", "relations", 3)))
    blocked.mkdir(parents=True)  # a folder where a file is to be
    result = read_annotations(settings, str(folder), "made")
    assert list(result["failed"]["rows"]) == [3] and result["ranges_read"] == 4
    with pytest.raises(TinyTagsError):
        check(result)
    blocked.rmdir()
    assert read_annotations(settings, str(folder), "made")["ranges_read"] == 1
    assert not store.list(layout.failed_folder(layout.annotations_rows_folder("made")))


def test_damage_is_found_marked_and_written_again(made, tmp_path):
    folder, _ = made
    store, _ = read(tmp_path, folder, 20_000)
    before, annotations = documents(store), open_annotations(store, "made")
    images = annotations.documents("images")
    store.write_bytes(layout.annotations_rows("made", annotations.range(1)[0].kind, 1), b"not Parquet")
    store.remove(layout.statistics(images.folder, 0))
    _, result = read(tmp_path, folder, 20_000)
    assert list(result["failed"]["documents"]) == [0]
    store.remove(layout.annotations_bad("made", 2))
    store.write_bytes(documents_file(images, 1), b"{}\n")
    reported = verify_annotations(store, "made", None)["problems"]
    problems = [("rows", 1), ("rows", 2), ("documents", 0), ("documents", 1)]
    assert [(problem["kind"], problem["partition"]) for problem in reported] == problems
    with lease(store, layout.annotations_lease("made"), "x"), pytest.raises(LeaseHeldError):
        verify_annotations(store, "made", None, repair=True)
    assert not verify_annotations(store, "made", None, repair=True)["ok"]
    _, again = read(tmp_path, folder, 20_000)
    assert (again["ranges_read"], again["partitions_written"]) == (2, 2)
    assert verify_annotations(store, "made", None)["ok"] and documents(store) == before


def test_other_files_under_the_same_name_are_refused(made, tmp_path):
    read(tmp_path / "store", made[0])
    other = tmp_path / "other"
    made_annotations.make(other, images=50)
    with pytest.raises(TinyTagsError, match="exist already"):
        read(tmp_path / "store", other)


def test_a_folder_without_annotations_is_one_clear_line(tmp_path):
    with pytest.raises(TinyTagsError, match="no CSV file"):
        scan(str(tmp_path), "x")
    with pytest.raises(TinyTagsError, match="not a folder"):
        scan(str(tmp_path / "missing"), "x")
    (tmp_path / "labels.csv").write_text("ImageID,Source,LabelName\na,verification,/m/0\n")
    with pytest.raises(TinyTagsError, match="'confidence'"):
        scan(str(tmp_path), "x")
    (tmp_path / "labels.csv").write_bytes(b"ImageID,Source,LabelName,Confidence\ra,verification,/m/0,1\r")
    with pytest.raises(TinyTagsError, match="carriage return"):
        scan(str(tmp_path), "x")


def test_a_file_that_is_cut_loses_its_last_row_only(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "relations.csv").write_text(
        "ImageId,Label1,Relation,Label2\na,/m/1,at,/m/2\nb,/m/1,a"
    )
    _, result = read(tmp_path / "store", tmp_path / "csv")
    assert (result["relation_rows"], result["bad"], result["images"], result["label_rows"]) == (1, 1, 1, 0)


def test_a_confidence_of_0_is_verified_absent_in_every_layout_of_labels(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "labels.csv").write_text("ImageId,Label,Confidence\na,/m/1,0\na,/m/2,1\n")
    store, _ = read(tmp_path / "store", tmp_path / "csv")
    (image,) = documents(store)["images"]
    assert (image["classes"], image["absent"]) == (["/m/2"], ["/m/1"])


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("LabelName,DisplayName", "classes"),
        ("Label,Description", "classes"),
        ("/m/011k07,Tortoise", "classes"),
        ("ImageID,Source,LabelName,Confidence", "labels"),
        ("Confidence,LabelName,ImageID,Source", "labels"),
        ("ImageID,Source,LabelName,Confidance", "labels"),
        ("ImageId,Label", "labels"),
        ("ImageId,Label1,Relation,Label2", "relations"),
        (
            "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2,RelationshipLabel",
            "relations",
        ),
        (
            "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2,RelationLabel",
            "relations",
        ),
        ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded", None),
        ("ImageID,Subset,OriginalURL,License", None),
        ("ImageId,X,Y,Label,EstimatedYesNo,Source,YesVotes,NoVotes,UnsureVotes,TextLabel", None),
        ("LabelName1,LabelName2,RelationshipLabel", None),
        ("name,age", None),
    ],
)
def test_a_layout_is_known_by_its_header(header, kind):
    recognised = recognise(header, "x.csv")
    assert (recognised and recognised.kind) == kind
    if kind == "labels" and "Source" in header:
        names = [name.lower() for name in header.split(",")]
        assert recognised.columns["class"] == names.index("labelname") and recognised.columns[
            "image"
        ] == names.index("imageid")
