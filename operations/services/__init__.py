"""Servers on this machine, of jars from Maven Central or of the system's packages, started and stopped."""

from operations.services.cassandra import Cassandra
from operations.services.hdfs import Hdfs
from operations.services.java import fetch_jars, jars_folder
from operations.services.mariadb import MariaDb
from operations.services.ports import LOOPBACK, free_port, get_json
from operations.services.postgresql import PostgreSql
from operations.services.registry import configured_services
from operations.services.service import CONF, Service
from operations.services.solr import Solr
from operations.services.yarn import Yarn

__all__ = [
    "CONF",
    "LOOPBACK",
    "Cassandra",
    "Hdfs",
    "MariaDb",
    "PostgreSql",
    "Service",
    "Solr",
    "Yarn",
    "configured_services",
    "fetch_jars",
    "free_port",
    "get_json",
    "jars_folder",
]
