"""The services that there are, as the environment has them."""

import os
from pathlib import Path

from conf.errors import TinyTagsError
from operations.services.hdfs import Hdfs
from operations.services.ports import LOOPBACK
from operations.services.service import Service
from operations.services.solr import Solr
from operations.services.yarn import Yarn

SETTINGS = {
    "TINYTAGS_SERVICES_DIR": (
        "data/services",
        "where servers keep data, logs and pid files, seen from the project",
    ),
    "TINYTAGS_SERVICES_HOST": (LOOPBACK, "the address they listen on; they ask nobody for a password"),
    "TINYTAGS_JARS_DIR": ("", "where jars are kept; else tinytags/jars in the user's cache"),
    "TINYTAGS_SOLR_PORT": (8983, "Solr; its ZooKeeper takes this + 1000"),
    "TINYTAGS_SOLR_HEAP": ("1g", "memory of Solr's JVM, without its file caches"),
    "TINYTAGS_HDFS_PORT": (8020, "the NameNode"),
    "TINYTAGS_HDFS_HTTP_PORT": (9870, "WebHDFS"),
    "TINYTAGS_HDFS_DATANODES": (1, "how many DataNodes"),
    "TINYTAGS_HDFS_DATANODE_PORT": (
        9866,
        "the first DataNode, with this - 2 and + 1; the next one 10 higher",
    ),
    "TINYTAGS_HDFS_HEAP": ("256m", "memory of each HDFS server's JVM"),
    "TINYTAGS_YARN_PORT": (8032, "the ResourceManager, with this - 2, - 1 and + 1"),
    "TINYTAGS_YARN_HTTP_PORT": (8088, "the ResourceManager's web page and REST"),
    "TINYTAGS_YARN_MEMORY": (4096, "MB that all containers together may take"),
    "TINYTAGS_YARN_HEAP": ("256m", "memory of each YARN server's JVM"),
}
NAMES = ("solr", "hdfs", "yarn")


def configured_services(environ=os.environ) -> dict[str, Service]:
    """Solr, HDFS and YARN as the environment has them (`SETTINGS`). Raises for a value that cannot be."""

    def value(name: str):
        name = f"TINYTAGS_{name}"
        default = SETTINGS[name][0]
        given = environ.get(name) or default
        if not isinstance(default, int):
            return given
        # Room for the ports beside it.
        least, most = (1024, 64000) if name.endswith("PORT") else (1, 1 << 30)
        if not str(given).isdecimal() or not least <= int(given) <= most:
            raise TinyTagsError(f"{name} is {given!r}; it has to be a whole number from {least} to {most}")
        return int(given)

    directory, host = Path(value("SERVICES_DIR")), value("SERVICES_HOST")
    if host == "0.0.0.0":
        raise TinyTagsError(
            "TINYTAGS_SERVICES_HOST is 0.0.0.0; servers tell it to others: give this machine's address"
        )
    solr = Solr(directory / "solr", value("SOLR_PORT"), value("SOLR_HEAP"), host)
    hdfs = Hdfs(
        directory / "hdfs",
        value("HDFS_PORT"),
        value("HDFS_HTTP_PORT"),
        value("HDFS_DATANODES"),
        value("HDFS_DATANODE_PORT"),
        value("HDFS_HEAP"),
        host,
    )
    yarn = Yarn(
        directory / "yarn",
        hdfs,
        value("YARN_PORT"),
        value("YARN_HTTP_PORT"),
        value("YARN_MEMORY"),
        heap=value("YARN_HEAP"),
        host=host,
    )
    return {"solr": solr, "hdfs": hdfs, "yarn": yarn}
