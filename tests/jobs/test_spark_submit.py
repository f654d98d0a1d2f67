"""Tests of the jobs under the real spark-submit, with our code as a zip: local, on a standalone master, on YARN with HDFS."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import (
    CLASSES,
    PATIENCE,
    clean_environment,
    contents,
    make_corpus,
    run,
    run_json,
    wait_until,
    write_cifar,
    write_tiny_images,
)

from ingest.runs import open_run
from ingest.store import open_store
from jobs.session import write_zip
from jobs.tag_images import tag_partition

JOBS = Path(__file__).resolve().parents[2] / "jobs"
SPARK_SUBMIT = Path(sys.executable).with_name("spark-submit")
LOOPBACK = ["spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.ui.enabled=false"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Our code as ``--py-files``."""
    path = tmp_path_factory.mktemp("zip") / "tinytags.zip"
    with open(path, "wb") as file:
        write_zip(file)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A labelled folder like CIFAR-10 and an unlabelled dump."""
    folder = tmp_path_factory.mktemp("world")
    write_cifar(folder / "cifar-10-batches-bin", 1_000, 200)
    write_tiny_images(folder / "tiny_images.bin", 1_500)
    return folder


def submit(
    script: Path, *words, packed: Path, master: str, cwd: Path, conf: list[str] = (), **environment
) -> str:
    """Run a script by spark-submit, away from the checkout; return its stdout."""
    options = [word for item in [*LOOPBACK, *conf] for word in ("--conf", item)]
    command = [SPARK_SUBMIT, "--master", master, *options, "--py-files", packed, script, *words]
    environment = clean_environment(
        PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1", PYTHONDONTWRITEBYTECODE="1", **environment
    )
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit_json(job: str, *words, **options) -> dict:
    return json.loads(submit(JOBS / f"{job}.py", *words, "--json", **options).splitlines()[-1])


def test_the_zip_is_what_driver_and_workers_run(packed, tmp_path):
    script = tmp_path / "where.py"
    script.write_text(
        "import conf, json\n"
        "from pyspark import SparkContext\n"
        "context = SparkContext()\n"
        "def where(_):\n"
        "    import conf, tagging\n"
        "    return conf.__file__ + ' ' + tagging.__file__\n"
        "print(json.dumps([conf.__file__, *context.parallelize([1, 2], 2).map(where).collect()]))\n"
    )
    told = submit(script, packed=packed, master="local[2]", cwd=tmp_path)
    assert all("tinytags.zip/" in place for place in json.loads(told.splitlines()[-1]))


def test_jobs_run_locally(packed, world, tmp_path):
    store = open_store(str(tmp_path / "store"))
    make_corpus(store, "cifar", world / "cifar-10-batches-bin", 400)
    run(
        "train",
        "--corpus",
        "cifar",
        "--model",
        "forest",
        "--engine",
        "scikit-learn",
        TINYTAGS_STORE=store.url(),
    )
    options = {"packed": packed, "master": "local[2]", "cwd": tmp_path}
    tagged = submit_json(
        "tag_images", "--corpus", "cifar", "--model", "forest", "--store", store.url(), **options
    )
    assert tagged["tagged"] + tagged["dropped"] == 1_200
    assert tagged["partitions_tagged"] == 3
    measured = submit_json(
        "evaluate_model", "--model", "forest", "--corpus", "cifar", "--store", store.url(), **options
    )
    assert measured["images"] == 1_200
    assert measured["quality"]["accuracy"] > 2 / len(CLASSES), "it has learnt something"


def test_a_bad_option_is_one_line_there_too(packed, tmp_path):
    with pytest.raises(AssertionError, match="no corpus 'none' in") as caught:
        submit_json(
            "tag_images", "--corpus", "none", "--model", "x", "--store", tmp_path / "store", packed=packed,
            master="local[1]", cwd=tmp_path,
        )  # fmt: skip
    assert "Traceback (most recent call last)" not in str(caught.value)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    """The address of a standalone Spark master with one worker of two cores."""
    import pyspark

    from operations.services import free_port, is_free

    home = Path(pyspark.__file__).parent
    port, folder = free_port(), tmp_path_factory.mktemp("standalone")
    environment = clean_environment(SPARK_LOCAL_IP="127.0.0.1", SPARK_NO_DAEMONIZE="1", SPARK_HOME=str(home))
    command = [str(home / "bin" / "spark-class")]
    master = [
        "org.apache.spark.deploy.master.Master",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--webui-port",
        "0",
    ]
    worker = ["org.apache.spark.deploy.worker.Worker", "--cores", "2", "--memory", "1500m", "--webui-port", "0",
              "--work-dir", str(folder), f"spark://127.0.0.1:{port}"]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, words in (("master", master), ("worker", worker)):
            with open(folder / f"{name}.log", "wb") as log:
                process = subprocess.Popen(command + words, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            if name == "master":
                wait_until(lambda: not is_free("127.0.0.1", port), process)
        yield f"spark://127.0.0.1:{port}"


def test_jobs_run_on_a_standalone_master(packed, world, standalone, tmp_path):
    store = tmp_path / "store"
    options = {"packed": packed, "master": standalone, "cwd": tmp_path}
    options["conf"] = ["spark.executor.memory=1g", "spark.cores.max=2"]
    split = submit_json(
        "split_dump",
        world / "tiny_images.bin",
        "--corpus",
        "tiny",
        "--partition-images",
        400,
        "--store",
        store,
        **options,
    )
    assert (split["images"], split["split"]) == (1_500, 4)
    assert len(list(store.rglob("images.parquet"))) == 4


def test_the_command_brings_its_own_zip_to_a_standalone_master(world, standalone, tmp_path):
    told = run_json(
        "ingest", world / "tiny_images.bin", "--corpus", "tiny", "--partition-images", 400, "--store", tmp_path / "store",
        "--master", standalone, SPARK_LOCAL_IP="127.0.0.1",
    )  # fmt: skip
    assert told["split"] == 4


def test_jobs_run_on_yarn_with_everything_in_hdfs(packed, world, hdfs, yarn, tmp_path):
    """The dump, the corpora, the model and the tags lie in HDFS; the bytes are those of a local store."""
    store = f"{hdfs.url}/spark-submit/store"
    there = open_store(store, hdfs.webhdfs)
    open_store(f"{hdfs.url}/spark-submit", hdfs.webhdfs).write_bytes(
        "tiny_images.bin", (world / "tiny_images.bin").read_bytes()
    )
    make_corpus(there, "cifar", world / "cifar-10-batches-bin", 400)
    python = sys.executable
    conf = [
        f"spark.yarn.jars=local:{Path(sys.prefix)}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/pyspark/jars/*",
        f"spark.pyspark.python={python}", f"spark.executorEnv.PYSPARK_PYTHON={python}", "spark.yarn.am.memory=512m",
        "spark.executor.memory=900m", "spark.executor.instances=1", "spark.executor.cores=2",
        "spark.yarn.submit.waitAppCompletion=true",
    ]  # fmt: skip
    options = {
        "packed": packed, "master": "yarn", "cwd": tmp_path, "conf": conf, "HADOOP_CONF_DIR": str(yarn.conf_dir),
        "TINYTAGS_WEBHDFS": hdfs.webhdfs, "HADOOP_USER_NAME": there.user,
    }  # fmt: skip
    where = ["--store", store]
    dump = f"{hdfs.url}/spark-submit/tiny_images.bin"
    split = submit_json("split_dump", dump, "--corpus", "tiny", "--partition-images", 400, *where, **options)
    assert (split["images"], split["partitions"], split["split"]) == (1_500, 4, 4)
    train = ["--corpus", "cifar", "--model", "forest", "--trees", 5, "--depth", 4, "--bins", 16]
    card = submit_json("train_forest", *train, *where, **options)
    assert (card["engine"], card["trees"], card["trained_on"]["images"]) == ("mllib", 5, 1_000)
    assert card["quality"]["images"] == 200
    tagged = submit_json("tag_images", "--corpus", "tiny", "--model", "forest", *where, **options)
    assert tagged["tagged"] + tagged["dropped"] == 1_500

    # The same here, without Spark, with the model that YARN has trained.
    local = open_store(str(tmp_path / "store"))
    for name in ("forest.npz", "model.json"):
        local.write_bytes(f"models/forest/{name}", there.read_bytes(f"models/forest/{name}"))
    corpus = make_corpus(local, "tiny", world / "tiny_images.bin", 400)
    there_run = open_run(there, tagged["run"])
    for partition in range(4):
        tag_partition(local, corpus, there_run, partition)
    found = {path for path in contents(tmp_path / "store") if path.endswith((".parquet", ".jsonl"))}
    assert len(found) == 8
    for path in found:
        assert there.read_bytes(path) == local.read_bytes(path), path
