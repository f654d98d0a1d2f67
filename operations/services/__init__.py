"""Solr, HDFS and YARN on this machine: real servers, made of jars from Maven Central, started and stopped."""

from operations.services.hdfs import Hdfs
from operations.services.java import fetch_jars, jars_folder, java_command
from operations.services.ports import LOOPBACK, free_port, get_json
from operations.services.registry import configured_services
from operations.services.service import CONF, Service
from operations.services.solr import Solr
from operations.services.yarn import Yarn

__all__ = [
    "CONF",
    "LOOPBACK",
    "Hdfs",
    "Service",
    "Solr",
    "Yarn",
    "configured_services",
    "fetch_jars",
    "free_port",
    "get_json",
    "jars_folder",
    "java_command",
]
