"""Tests of `storage.checked_json`: what was changed is never read; what version 0.1 wrote is."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_world import CLASSES, make_corpus, write_tiny_images

from conf.errors import TinyTagsError
from conf.notes import take_notes
from ingest.corpus import open_corpus
from jobs.partitions import record_failed
from storage import checked_json, layout
from storage.runs import Run, create_run, open_run, read_statistics
from storage.store import DamagedFileError, open_store
from tagging.models import read_card

FLIPS = 60  # a file


def test_json_has_its_checksum_on_its_last_line():
    value = {"name": "Käse", "rows": [0, 9]}
    data = checked_json.encode(value)
    head, line = data.decode().rsplit("\n", 3)[0], data.decode().splitlines()[-2]
    assert head == '{\n "name": "Käse",\n "rows": [\n  0,\n  9\n ],'
    assert json.loads(data) == value | {"checksum": line.split('"')[3]}
    assert checked_json.decode(data) == (value, True)
    assert checked_json.decode(checked_json.encode({})) == ({}, True)


def test_json_lines_have_their_checksum_on_a_last_line_and_a_changed_byte_is_an_error():
    lines = b'{"row":1,"reason":"K\xc3\xa4se"}\n{"row":2}\n'
    data = checked_json.encode_lines(lines)
    assert (data.startswith(lines), list(json.loads(data.splitlines()[-1]))) == (True, ["checksum"])
    assert checked_json.decode_lines(data) == (lines.splitlines(), True)
    assert checked_json.decode_lines(lines) == (lines.splitlines(), False), "as earlier versions wrote them"
    for at in range(len(data)):
        with pytest.raises(checked_json.DamagedError):
            checked_json.decode_lines(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if not data[:at].endswith(b"\n") and at:
            with pytest.raises(checked_json.DamagedError):
                checked_json.decode_lines(data[:at])


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[1]", b"", b'{"checksum": "sha256:0"}'])
def test_what_is_no_object_or_has_a_wrong_checksum_is_damaged(data):
    with pytest.raises(checked_json.DamagedError):
        checked_json.decode(data)


@pytest.fixture
def readers(tmp_path):
    """A small store with every kind of JSON file: its store, and what reads each path."""
    store = open_store(str(tmp_path / "store"))
    corpus = make_corpus(store, "c", write_tiny_images(tmp_path / "t.bin", 50), 30)
    run = Run("c", corpus.hash, "m", "0" * 64, 0.4, CLASSES, 50, 2, 5)
    create_run(store, run)
    statistics = dict.fromkeys(("images", "tagged", "dropped", "bad", "bytes"), 3)
    store.write_json(layout.run_statistics(run.name, 0), {"partition": 0, "sha256": "0" * 64} | statistics)
    record_failed(store, lambda p: layout.run_failed(run.name, p), {1: TinyTagsError("why")}, set())
    store.write_json(layout.model_card("m"), {"name": "m", "quality": {"accuracy": 0.5}, "hash": "0" * 64})
    return store, {
        layout.corpus_manifest("c"): lambda: open_corpus(store, "c"),
        layout.corpus_statistics("c", 0): lambda: store.read_json(layout.corpus_statistics("c", 0)),
        layout.model_card("m"): lambda: read_card(store, "m"),
        layout.run_manifest(run.name): lambda: open_run(store, run.name),
        layout.run_statistics(run.name, 0): lambda: read_statistics(store, run, 0),
        layout.run_failed(run.name, 1): lambda: store.read_json(layout.run_failed(run.name, 1)),
    }


def test_a_changed_byte_is_an_error_or_changes_nothing(readers):
    store, by_path = readers
    random = np.random.default_rng(13)
    for path, read in by_path.items():
        file, value = Path(store.url(path)), read()
        data = file.read_bytes()
        for at in random.integers(0, len(data), FLIPS):
            flipped = bytearray(data)
            flipped[at] ^= 1 << random.integers(8)
            file.write_bytes(flipped)
            with pytest.raises(DamagedFileError) as error:
                read()
            assert error.value.path == path
        for end in random.integers(0, len(data), 5):
            file.write_bytes(data[:end])
            with pytest.raises(DamagedFileError):
                read()
        file.write_bytes(data)
        assert read() == value


def test_files_of_version_0_1_are_read_with_one_note_until_they_get_a_checksum(readers):
    store, by_path = readers
    values = {path: read() for path, read in by_path.items()}
    for path in by_path:
        old = json.dumps(store.read_json(path), indent=1, ensure_ascii=False).encode() + b"\n"
        Path(store.url(path)).write_bytes(old)
    take_notes()
    assert {path: read() for path, read in by_path.items()} == values
    notes = take_notes()
    assert len(notes) == 1 and notes[0].startswith(f"{store.url()}: some files ")
    for path in by_path:
        store.add_checksum(path)
        store.add_checksum(path)
    assert {path: read() for path, read in by_path.items()} == values
    assert take_notes() == []


def test_lists_of_earlier_versions_are_read_with_a_note_until_they_get_a_checksum(tmp_path):
    store, path = open_store(str(tmp_path)), "bad/00000.jsonl"
    store.write_bytes(path, b'{"row":1}\n{"row":2}\n')
    take_notes()
    assert store.read_lines(path) == [b'{"row":1}', b'{"row":2}']
    assert len(take_notes()) == 1
    store.add_checksum(path)
    store.add_checksum(path)
    assert store.read_lines(path) == [b'{"row":1}', b'{"row":2}']
    assert take_notes() == []
    store.write_bytes(path, b'{"row":1}\n{"row"')
    store.add_checksum(path)
    with pytest.raises(DamagedFileError):
        store.read_lines(path)
