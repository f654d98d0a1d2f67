"""What tests of several folders share: real servers, started when the first test asks for them."""

import signal

import pytest

# Started in the background, a shell has us ignore Ctrl-C, and so would the commands that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def solr(tmp_path_factory):
    """A running Solr without collections; who makes some, names them after itself and drops them."""
    from operations.services import Solr, free_port

    service = Solr(tmp_path_factory.mktemp("solr"), port=free_port(1000), heap="512m")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory):
    """A running HDFS with one DataNode; who writes, writes below a folder named after itself."""
    from operations.services import Hdfs, free_port

    service = Hdfs(tmp_path_factory.mktemp("hdfs"), free_port(), free_port(), datanode_port=free_port(-2, 1))
    service.start()
    yield service
    service.stop()


@pytest.fixture(params=["local", pytest.param("hdfs", marks=pytest.mark.services)])
def store_address(request, tmp_path):
    """The address of an empty store of either kind, and its WebHDFS."""
    if request.param == "local":
        return [str(tmp_path / "store"), ""]
    hdfs = request.getfixturevalue("hdfs")
    return [f"{hdfs.url}/{tmp_path.name}", hdfs.webhdfs]


@pytest.fixture(scope="session")
def yarn(tmp_path_factory, hdfs):
    """A running YARN with one node of 4 GB, on the HDFS above; its `conf_dir` is what Spark wants."""
    from operations.services import Yarn, free_port

    service = Yarn(tmp_path_factory.mktemp("yarn"), hdfs, port=free_port(-2, -1, 1), http_port=free_port())
    service.start()
    yield service
    service.kill()  # it has nothing to keep, and after a job takes 17 s to stop
