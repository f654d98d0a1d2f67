"""The worked example of CONTRIBUTING.md: a new format, registered by one line, is ingested and read back."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the example promises, in a process that imports the copy of `ingest` with the new format.
TRY = """
import sys
import numpy as np
from conf.errors import TinyTagsError
from ingest.corpus import Corpus, create_corpus, open_corpus
from ingest.partition import read_partition, write_partition
from ingest.formats import FORMATS, ingest_command, open_dump
from storage.store import open_store

folder = sys.argv[1]
pictures = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
pictures.tofile(f"{folder}/some.raw28")
(np.arange(300) % 10).astype(np.uint8).tofile(f"{folder}/labels.bin")

dump = open_dump(f"{folder}/some.raw28", labels=f"{folder}/labels.bin")
assert (dump.format, dump.images, list(FORMATS)[-1]) == ("raw-28", 300, "raw-28")
corpus = Corpus("mine", dump.format, dump.path, dump.identity, dump.images, 200, dump.labels, dump.classes, dump.splits)
store = open_store(f"{folder}/store")
create_corpus(store, corpus)
for partition in range(corpus.partitions):
    write_partition(store, corpus, partition, dump)
corpus = open_corpus(store, "mine")
blocks = [block for p in range(corpus.partitions) for block in read_partition(store, corpus, p)]
images = np.concatenate([block.images for block in blocks]).reshape(-1, 3, 32, 32)
assert (images[:, :, 2:30, 2:30] == pictures[:, None]).all() and images.shape == (300, 3, 32, 32)
assert np.concatenate([block.labels for block in blocks]).tolist() == [row % 10 for row in range(300)]
assert ingest_command(corpus)[5:] == ["--labels", f"{folder}/labels.bin", "--partition-images", "200"]
assert open_dump(f"{folder}/some.raw28").classes is None
with open(f"{folder}/some.raw28", "ab") as file:
    file.write(b"x")
try:
    open_dump(f"{folder}/some.raw28", "raw-28")
except TinyTagsError as error:
    assert "235,201 bytes is not a whole number of 784-byte records" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.slow
def test_the_format_of_the_worked_example_is_ingested_and_read_back(tmp_path):
    section = (
        (ROOT / "CONTRIBUTING.md")
        .read_text()
        .partition("## Add a format in ten minutes")[2]
        .partition("\n## ")[0]
    )
    module, line = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    copy = tmp_path / "code"
    shutil.copytree(ROOT / "ingest", copy / "ingest", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "ingest" / "formats" / "raw_28.py").write_text(module)
    registry = copy / "ingest" / "formats" / "__init__.py"
    before = registry.read_text()
    registry.write_text(before.replace('    "folder",\n', f'    "folder",\n{line}'))
    assert len(registry.read_text().splitlines()) == len(before.splitlines()) + 1
    command = [sys.executable, "-c", TRY, str(tmp_path)]
    path = os.pathsep.join([str(copy), str(ROOT)])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path, check=True)


def test_the_worked_example_is_formatted_and_typed_like_our_code(tmp_path):
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a format in ten minutes")[2]
    module = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    path = tmp_path / "raw_28.py"
    path.write_text(module)
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["check", "-q"], ["format", "--check", "-q"]):
        subprocess.run([*ruff, *words, "--config", str(ROOT / "ruff.toml"), str(path)], check=True)
