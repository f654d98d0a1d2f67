"""Cassandra: one node."""

import json
import socket
from pathlib import Path
from typing import Any, Self

from operations.services.java import LIGHT_JVM_OPTIONS
from operations.services.ports import LOOPBACK
from operations.services.service import CONF, Daemon, Service, Setting

# What Cassandra's own conf/jvm17-server.options opens to it.
_EXPORTS = """java.base/jdk.internal.misc java.base/java.lang.ref java.base/java.lang.reflect
java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql
jdk.unsupported/sun.misc"""
_OPENS = """java.base/java.io java.base/java.lang.module java.base/java.net java.base/java.nio java.base/java.util
java.base/java.util.concurrent java.base/java.util.concurrent.atomic java.base/jdk.internal.loader
java.base/jdk.internal.math java.base/jdk.internal.module java.base/jdk.internal.ref java.base/jdk.internal.reflect
java.base/jdk.internal.util.jar java.base/sun.nio.ch jdk.management/com.sun.management.internal"""
PERIODIC = {"commitlog_sync": "periodic", "commitlog_sync_period": "10000ms"}


class Cassandra(Service):
    """One Cassandra node, which asks for no password; its storage listens on the port + 1.

    A ``light`` one starts sooner, and may lose the last 10 seconds when it is killed.
    """

    name = "cassandra"
    pom = CONF / "cassandra" / "pom.xml"
    optional = True
    settings = (
        Setting("CASSANDRA_PORT", 9042, "Cassandra; its storage uses this + 1"),
        Setting("CASSANDRA_HEAP", "384m", "memory of Cassandra's JVM"),
    )

    def __init__(
        self,
        directory: Path | str,
        port: int = 9042,
        heap: str = "384m",
        host: str = LOOPBACK,
        light: bool = False,
    ) -> None:
        super().__init__(directory)
        self.url = f"cassandra://{host}:{port}/tinytags"
        self._host, self._port, self._light = host, port, light
        self._configuration = self.directory / "cassandra.yaml"
        options = [
            f"-Xms{heap}",
            *LIGHT_JVM_OPTIONS,
            "-Djdk.attach.allowAttachSelf=true",
            *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS.split()),
            *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS.split()),
            f"-Dlogback.configurationFile={(CONF / 'cassandra' / 'logback.xml').as_uri()}",
            f"-Dcassandra.config={self._configuration.as_uri()}",
            f"-Dcassandra.storagedir={self.directory / 'data'}",
            # It is the only node and waits for no other.
            "-Dcassandra.ring_delay_ms=1",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.superuser_setup_delay_ms=0",
            "-Dcassandra-foreground=yes",
            # Its own tables aren't written to disk after each change of a table.
            *(["-Dcassandra.unsafesystem=true"] if light else []),
        ]
        main = ["org.apache.cassandra.service.CassandraDaemon"]
        data = self.directory / "data"
        self.daemons = [
            Daemon("cassandra", main, [port, port + 1], data, self.logs, heap, self._is_ready, options, host)
        ]

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        return cls(directory, values["CASSANDRA_PORT"], values["CASSANDRA_HEAP"], values["SERVICES_HOST"])

    def configuration(self) -> dict[str, Any]:
        """Return what is in cassandra.yaml."""
        data, storage = self.directory / "data", f"{self._host}:{self._port + 1}"
        return {
            "cluster_name": "tinytags",
            "num_tokens": 1,
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "seed_provider": [
                {
                    "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                    "parameters": [{"seeds": storage}],
                }
            ],
            "listen_address": self._host,
            "storage_port": self._port + 1,
            "rpc_address": self._host,
            "native_transport_port": self._port,
            "data_file_directories": [str(data / "data")],
            "hints_directory": str(data / "hints"),
            "saved_caches_directory": str(data / "saved_caches"),
            "commitlog_directory": str(data / "commitlog"),
            "commitlog_segment_size": "8MiB",
            # What is confirmed is on disk; by default it gets there within 10 s.
            **({"commitlog_sync": "batch"} if not self._light else PERIODIC),
            "auto_snapshot": False,
            # Conditional inserts in fewer rounds.
            "paxos_variant": "v2",
            "memtable_heap_space": "64MiB",
            "memtable_offheap_space": "64MiB",
            "key_cache_size": "8MiB",
            "concurrent_reads": 8,
            "concurrent_writes": 8,
        }

    def prepare(self, java: str, jars: Path) -> None:
        # YAML has JSON in it.
        self._configuration.write_text(json.dumps(self.configuration(), indent=2))

    def _is_ready(self) -> bool:
        # It listens when it is usable. The answer to OPTIONS (5) of version 4 of its protocol is SUPPORTED (6).
        try:
            with socket.create_connection((self._host, self._port), timeout=5) as connection:
                connection.sendall(b"\x04\0\0\0\x05\0\0\0\0")
                return connection.recv(5)[:1] == b"\x84"
        except OSError:
            return False
