"""What the tests of several folders share: real servers, started for the first test that needs them, and fast mode."""

import fcntl
import gc
import importlib.util
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import hypothesis
import pytest

# A shell starts background commands with Ctrl-C ignored, and they pass that on to the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; PYTHONHASHSEED is for the processes that tests and pytest-xdist start.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None)
hypothesis.settings.load_profile("fixed")
os.environ.setdefault("PYTHONHASHSEED", "0")

# The marker that a test gets for each fixture that it uses, directly or through other fixtures.
MARKERS = {
    "solr": "services",
    "hdfs": "services",
    "yarn": "services",
    "postgresql": "services",
    "mariadb": "services",
    "cassandra": "services",
    "chromium": "services",
    "spark": "spark",
    "keras": "slow",
    "litert": "slow",
}
# One worker runs all tests that need one of these, so that each is started, or TensorFlow imported, once.
SHARED_BY_ONE = {"shared": {"spark", "hdfs", "yarn"}, "networks": {"keras", "litert"}}
# A worker runs all other tests of a file, so that its fixtures are set up once. The files that take longest come first,
# so that all workers end at the same time.
LONGEST_FIRST = (
    "test_index",
    "test_accessibility",
    "test_demo",
    "test_spark_submit",
    "test_api",
    "test_services",
    "test_split_dump",
    "test_servers",
    "test_bench",
    "test_injection",
    "test_notebooks",
    "test_tag_images",
    "test_campaign",
    "test_runs_page",
    "test_models_page",
)
# In fast mode these are the first on the PATH, and only say which marker is missing.
GUARDED = {
    "java": "spark",
    "mvn": "services",
    "chromium-headless-shell": "services",
    "chromium": "services",
    "google-chrome": "services",
}
# The servers of the fixtures below, in this worker.
SERVERS = []


def pytest_configure(config):
    """Give each worker ports of its own: a server listens long after its port was chosen."""
    if worker := getattr(config, "workerinput", None):
        from operations.services import ports

        share = len(ports.FREE_PORTS) // worker["workercount"]
        first = ports.FREE_PORTS.start + share * int(worker["workerid"].removeprefix("gw"))
        ports.FREE_PORTS = range(first, first + share)


def pytest_addoption(parser):
    parser.addoption(
        "--fast",
        action="store_true",
        help="run only tests that start no server, browser or JVM and aren't slow; guard against those",
    )


def pytest_ignore_collect(collection_path, config):
    """In fast mode, don't import files of which no test runs: bench, notebooks and others import much."""
    if config.getoption("--fast") and collection_path.suffix == ".py":
        marked = re.search(r"^pytestmark = pytest\.mark\.(\w+)", collection_path.read_text(), re.MULTILINE)
        if marked and marked[1] in {*MARKERS.values(), "slow"}:
            return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Set markers by fixtures, leave out what fast mode doesn't run, and give the files to the workers in order."""
    for item in items:
        for name in used_fixtures(item) & set(MARKERS):
            item.add_marker(MARKERS[name])
    if config.getoption("--fast"):
        slow = [item for item in items if any(map(item.get_closest_marker, [*MARKERS.values(), "slow"]))]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    groups = {
        item: group
        for group, fixtures in SHARED_BY_ONE.items()
        for item in items
        if used_fixtures(item) & fixtures
    }
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups.get(item, item.path.stem)))

    def order(item) -> int:
        if item in groups:
            return list(SHARED_BY_ONE).index(groups[item]) - len(SHARED_BY_ONE)
        return LONGEST_FIRST.index(item.path.stem) if item.path.stem in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=order)


def pytest_collection_finish():
    """Leave the modules and tests, millions of objects, out of garbage collections: each takes a second with them."""
    gc.collect()
    gc.freeze()


def pytest_keyboard_interrupt():
    """Let all servers end at once: 5 seconds after Ctrl-C pytest-xdist interrupts the fixtures that stop one after another."""
    for service in SERVERS:
        service.terminate()


def used_fixtures(item) -> set[str]:
    """Return the fixtures that a test uses, with those that a parameter of the same name chooses."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return set(item.fixturenames) | {value for value in parameters if isinstance(value, str)}


@pytest.fixture(scope="session", autouse=True)
def guard(request, tmp_path_factory):
    """In fast mode, let a test that starts a server, a browser or a JVM fail."""
    if request.config.getoption("--fast"):
        folder = tmp_path_factory.mktemp("guard")
        for command, marker in GUARDED.items():
            script = folder / command
            # What only wants to know Java's version starts nothing.
            version = (
                """[ "$*" = -version ] && echo 'openjdk version "17"' && exit\n"""
                if command == "java"
                else ""
            )
            script.write_text(
                f"#!/bin/sh\n{version}echo '{command} in fast mode: mark this test `{marker}`' >&2\nexit 70\n"
            )
            script.chmod(0o755)
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
        os.environ["TINYTAGS_CHROMIUM"] = str(folder / "chromium")
        os.environ.pop("JAVA_HOME", None)


@pytest.fixture(scope="session")
def solr(tmp_path_factory):
    """A running Solr, one for each worker; a test drops the collections and aliases that it creates."""
    from operations.services import Solr, free_port

    service = Solr(tmp_path_factory.mktemp("solr"), port=free_port(1000), heap="512m", light=True)
    SERVERS.append(service)
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory):
    """A running HDFS with one DataNode; each test writes below a folder of its own."""
    from operations.services import Hdfs, free_port

    service = Hdfs(tmp_path_factory.mktemp("hdfs"), free_port(), free_port(), datanode_port=free_port(-2, 1))
    SERVERS.append(service)
    service.start()
    yield service
    service.stop()


def packaged(service_class):
    """Start a server of the system's packages in a folder that its user reaches: pytest's own are only for root."""
    from operations.services import free_port

    with tempfile.TemporaryDirectory(prefix="tinytags-") as folder:
        os.chmod(folder, 0o755)
        service = service_class(folder, free_port())
        SERVERS.append(service)
        service.start()
        yield service
        service.kill()  # it keeps nothing


@pytest.fixture(scope="session")
def postgresql():
    """A running PostgreSQL; each test has a database of its own."""
    from operations.services import PostgreSql

    yield from packaged(PostgreSql)


@pytest.fixture(scope="session")
def mariadb():
    """A running MariaDB; each test has a database of its own."""
    from operations.services import MariaDb

    yield from packaged(MariaDb)


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory):
    """A running Cassandra, which takes half a minute to start: all its tests are in one file."""
    from operations.services import Cassandra, free_port

    service = Cassandra(tmp_path_factory.mktemp("cassandra"), free_port(1), light=True)
    SERVERS.append(service)
    service.start()
    yield service
    service.kill()  # it keeps nothing


@pytest.fixture(params=["local", pytest.param("hdfs", marks=pytest.mark.services)])
def store_address(request, tmp_path):
    """The address of an empty store of either kind, and its WebHDFS."""
    if request.param == "local":
        return [str(tmp_path / "store"), ""]
    hdfs = request.getfixturevalue("hdfs")
    return [f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs]


@pytest.fixture(scope="module")
def yarn(tmp_path_factory, hdfs):
    """A running YARN with one node of 4 GB, on the HDFS above; its `conf_dir` is Spark's HADOOP_CONF_DIR."""
    from operations.services import Yarn, free_port

    service = Yarn(tmp_path_factory.mktemp("yarn"), hdfs, port=free_port(-2, -1, 1), http_port=free_port())
    SERVERS.append(service)
    service.start()
    yield service
    service.kill()  # it keeps nothing, and takes 17 s to stop after a job


@pytest.fixture(scope="session")
def spark():
    """A Spark session that stays: jobs called in this process use it instead of starting one each."""
    from small_world import MASTER

    from jobs.session import java_options, open_session

    options = {"spark.driver.memory": "2g", "spark.sql.shuffle.partitions": "2"}
    # Java's second compiler takes longer than what it makes faster in tests.
    options["spark.driver.extraJavaOptions"] = " ".join(java_options(light=True))
    with open_session(MASTER, "tests", **options) as spark:
        yield spark


@pytest.fixture(scope="session")
def keras():
    """Keras on TensorFlow, which is installed for the first test that needs it."""
    from tagging.network.training import load_keras

    install_train()
    return load_keras()


@pytest.fixture(scope="session")
def litert():
    """LiteRT, which is installed for the first test that needs it."""
    install_train()
    return importlib.import_module("ai_edge_litert.interpreter")


def install_train():
    """Install what trains networks, once for all workers and runs: half a gigabyte, so not with what all tests need."""
    root = Path(__file__).parent.parent
    with open(root / ".venv" / ".lock-train", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not all(
            map(importlib.util.find_spec, ("keras", "tensorflow", "tf2onnx", "onnx", "ai_edge_litert"))
        ):
            subprocess.run([root / "scripts" / "setup", "train"], check=True)
            importlib.invalidate_caches()
