"""Tests of the jobs under the real spark-submit: on this machine, on a standalone cluster, and on YARN with HDFS.

The interpreter that they run with has all that TinyTags needs, but not TinyTags: that comes out of the zip.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from small_world import (
    CLASSES,
    PATIENCE,
    contents,
    make_corpus,
    make_images,
    wait_until,
    write_cifar,
    write_hostile,
    write_tiny_images,
)

from conf.settings import Settings
from jobs.archive import PACKAGES, write_zip
from jobs.session import java_options
from jobs.tag_images import tag_images
from operations.services import free_port, get_json
from storage import layout
from storage.store import open_store
from tagging.forest.scikit_learn import train
from tagging.models import load_model, save_model

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[2]
SPARK = Path(sys.executable).parent
# What a session of ours starts its JVM with: Java's second compiler takes longer than what it makes faster here.
QUICK = " ".join(java_options(light=True))
LIGHT = ["--driver-memory", "1g", "--conf", "spark.ui.enabled=false"]
for process in ("driver", "executor", "yarn.am"):
    LIGHT += ["--conf", f"spark.{process}.extraJavaOptions={QUICK}"]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An interpreter with the packages of this one, but without TinyTags."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    theirs = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    ours = [*PACKAGES, "tinytags", "__editable__", "easy-install", "__pycache__"]
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(tuple(ours)):
            (Path(theirs.strip()) / package.name).symlink_to(package)
    return python


@pytest.fixture(scope="module")
def submit(python, tmp_path_factory):
    """Run a job with spark-submit from a folder, also on PYTHONPATH, of modules with our names that must not be executed;
    return the object that it prints, or else its last line."""
    folder = tmp_path_factory.mktemp("elsewhere")
    empty = tmp_path_factory.mktemp("empty")
    marker = write_hostile(folder)
    with open(folder / "tinytags.zip", "wb") as file:
        write_zip(file)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TINYTAGS_", "PYTHON", "SPARK_"))
    }
    environment |= {"PYSPARK_PYTHON": str(python), "SPARK_LOCAL_IP": "127.0.0.1"}
    assert subprocess.run(
        [python, "-c", "import conf"], cwd=empty, env=environment, capture_output=True
    ).returncode
    environment["PYTHONPATH"] = str(folder)

    def submit(job: str, *words, options=("--master", "local[2]"), code: int = 0, **more: str) -> dict | str:
        command = [
            SPARK / "spark-submit",
            *LIGHT,
            *options,
            "--py-files",
            folder / "tinytags.zip",
            ROOT / "jobs" / job,
        ]
        ended = subprocess.run(
            [*map(str, command), *map(str, words), "--json"], capture_output=True, text=True, cwd=folder,
            env=environment | more, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stdout + ended.stderr[-5000:]
        assert not marker.exists(), marker.read_text()
        last = ended.stdout.splitlines()[-1]  # spark-submit puts the driver's stderr in stdout too
        return last if code else json.loads(last)

    return submit


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A labelled dump of 600 images with a test part, and one of 1,000 without labels."""
    folder = tmp_path_factory.mktemp("images")
    return write_cifar(folder / "cifar", 500, 100), write_tiny_images(folder / "tiny_images.bin", 1000)


SMALL = ["--trees", 2, "--depth", 1, "--bins", 2]


def save_forest(store) -> None:
    """Save a model that has learnt a few images."""
    forest, parameters = train(*make_images(300, seed=1), CLASSES, trees=2, depth=3)
    save_model(store, "forest", forest, {"engine": "scikit-learn", "parameters": parameters})


def test_jobs_run_on_this_machine_and_failures_are_one_line(submit, images, tmp_path):
    words = ["--store", tmp_path / "store"]
    store = open_store(str(tmp_path / "store"))
    save_forest(store)
    split = submit("split_dump.py", images[0], "--corpus", "cifar", "--partition-images", 150, *words)
    assert split["split"] == 4
    make_corpus(open_store(str(tmp_path / "expected")), "cifar", images[0], 150)
    assert contents(tmp_path / "store" / "corpora") == contents(tmp_path / "expected" / "corpora")
    assert submit("evaluate_model.py", "--corpus", "cifar", "--model", "forest", *words)["images"] == 100
    line = submit("tag_images.py", "--corpus", "nowhere", "--model", "forest", *words, code=1)
    assert line.startswith("tinytags: no corpus 'nowhere' in ")


@pytest.fixture
def standalone(tmp_path, python):
    """The address of a standalone master with one worker."""
    port, web = free_port(), free_port()
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)}
    environment["SPARK_DAEMON_JAVA_OPTS"] = QUICK
    address = f"spark://127.0.0.1:{port}"
    commands = [
        ["master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", web],
        [
            "worker.Worker", "--host", "127.0.0.1", "--cores", 1, "--memory", "1g", "--webui-port", free_port(),
            "--work-dir", tmp_path / "work", address,
        ],
    ]  # fmt: skip
    started = []
    try:
        for name, *words in commands:
            command = [SPARK / "spark-class", f"org.apache.spark.deploy.{name}", *words]
            with open(tmp_path / f"{name}.log", "wb") as log:
                started.append(
                    subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
                )
        wait_until(
            lambda: (get_json(f"http://127.0.0.1:{web}/json/") or {}).get("aliveworkers") == 1, started[1]
        )
        yield address
    finally:
        for process in started:
            process.terminate()
            process.wait(60)


@pytest.mark.services
def test_on_a_standalone_cluster_executors_use_the_zip(submit, standalone, python, images, tmp_path):
    store = open_store(str(tmp_path / "store"))
    make_corpus(store, "cifar", write_cifar(tmp_path / "cifar", 60, 20), 40)
    options = ["--master", standalone, "--executor-memory", "512m"]
    words = ["--corpus", "cifar", "--model", "forest", *SMALL, "--store", store.url()]
    card = submit("train_forest.py", *words, options=options)
    assert (card["engine"], card["trees"], card["trained_on"]["images"]) == ("mllib", 2, 60)
    assert load_model(store, "forest").hash == card["hash"]

    # The command brings a zip of its own to executors that have no TinyTags.
    words = ["ingest", images[1], "--corpus", "tiny", "--partition-images", 300, "--store", store.url()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    ended = subprocess.run(
        [python, "-m", "tinytags", *map(str, words), "--master", standalone, "--json"],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    make_corpus(open_store(str(tmp_path / "expected")), "tiny", images[1], 300)
    assert contents(Path(store.url("corpora/tiny"))) == contents(tmp_path / "expected" / "corpora" / "tiny")


@pytest.mark.services
def test_yarn_has_a_running_node_and_the_address_of_hdfs(yarn, hdfs):
    """Of `operations.services.yarn`; here, as a YARN runs for the next test."""
    nodes = get_json(f"{yarn.url}/ws/v1/cluster/nodes")["nodes"]["node"]
    assert [node["state"] for node in nodes] == ["RUNNING"]
    assert nodes[0]["availMemoryMB"] == 4096
    assert f"<value>{hdfs.url}</value>" in (yarn.conf_dir / "core-site.xml").read_text()


@pytest.mark.services
def test_on_yarn_everything_is_in_hdfs(submit, yarn, hdfs, python, images, tmp_path):
    store = open_store(f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs)
    make_corpus(store, "tiny", images[1], 300)
    save_forest(store)
    home = subprocess.check_output([SPARK / "find_spark_home.py"], text=True).strip()
    options = ["--master", "yarn", "--num-executors", "1", "--executor-memory", "600m"]
    for name, value in {
        "spark.yarn.jars": f"local:{home}/jars/*", "spark.yarn.am.memory": "512m",
        "spark.executorEnv.PYSPARK_PYTHON": python, "spark.yarn.appMasterEnv.PYSPARK_PYTHON": python,
    }.items():  # fmt: skip
        options += ["--conf", f"{name}={value}"]
    words = ["--store", store.url(), "--webhdfs", hdfs.webhdfs]
    where = {"HADOOP_CONF_DIR": str(yarn.conf_dir)}
    tagged = submit(
        "tag_images.py", "--corpus", "tiny", "--model", "forest", *words, options=options, **where
    )
    assert (tagged["partitions_tagged"], tagged["tagged"] + tagged["dropped"]) == (4, 1000)
    local = open_store(str(tmp_path / "local"))
    make_corpus(local, "tiny", images[1], 300)
    save_forest(local)
    tag_images(Settings(store=local.url(), master="processes"), "tiny", "forest")
    for number in range(4):
        path = layout.run_tags(tagged["run"], number)
        assert store.read_bytes(path) == local.read_bytes(path)
