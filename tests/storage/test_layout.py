"""Tests of `storage.layout`: stores written before stay readable, so no path may change."""

from storage import layout


def test_paths_are_those_of_stores_that_exist():
    assert [
        layout.corpus_manifest("tiny"),
        layout.corpus_images("tiny", 12),
        layout.corpus_statistics("tiny", 12),
        layout.corpus_failed("tiny", 12),
        layout.corpus_lease("tiny"),
        layout.corpus_names("tiny"),
    ] == [
        "corpora/tiny/manifest.json",
        "corpora/tiny/images/partition=00012/images.parquet",
        "corpora/tiny/statistics/00012.json",
        "corpora/tiny/failed/00012.json",
        "corpora/tiny/lease.json",
        "corpora/tiny/names.bin",
    ]
    assert [
        layout.model_card("m"),
        layout.model_file("m", "forest.npz"),
        layout.model_spark("m"),
        layout.model_lease("m"),
    ] == [
        "models/m/model.json",
        "models/m/forest.npz",
        "models/m/spark",
        "models/m/lease.json",
    ]
    assert [
        layout.run_manifest("r"),
        layout.run_tags("r", 123_456),
        layout.run_statistics("r", 0),
        layout.run_failed("r", 3),
        layout.run_rejected("r", 3),
        layout.run_lease("r"),
        layout.run_index_lease("r"),
    ] == [
        "runs/r/manifest.json",
        "runs/r/tags/123456.jsonl",
        "runs/r/statistics/00000.json",
        "runs/r/failed/00003.json",
        "runs/r/rejected/00003.jsonl",
        "runs/r/lease.json",
        "runs/r/index-lease.json",
    ]
    assert [
        layout.features_manifest("tiny", "hog-0f"),
        layout.features_codes("tiny", "hog-0f", 12),
        layout.features_statistics("tiny", "hog-0f", 12),
        layout.features_failed("tiny", "hog-0f", 12),
        layout.features_lease("tiny", "hog-0f"),
    ] == [
        "corpora/tiny/features/hog-0f/manifest.json",
        "corpora/tiny/features/hog-0f/codes/00012.npy",
        "corpora/tiny/features/hog-0f/statistics/00012.json",
        "corpora/tiny/features/hog-0f/failed/00012.json",
        "corpora/tiny/features/hog-0f/lease.json",
    ]
    assert layout.comparison("tiny", "0f") == "comparisons/tiny/0f.json"


def test_partitions_are_read_from_names_and_other_files_are_left_out():
    files = [
        "00002.json",
        "00010.json",
        "100000.json",
        "notes.json",
        "00003.jsonl",
        ".json",
        "00004",
        "1².json",
        "-1.json",
        "00005.json.tmp",
    ]
    assert layout.partitions_in(files) == [2, 10, 100_000]
    assert layout.partitions_in(files, ".jsonl") == [3]
