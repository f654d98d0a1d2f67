"""Solr in SolrCloud mode."""

import shutil
from pathlib import Path
from typing import Any, Self

from operations.services.java import LIGHT_JVM_OPTIONS
from operations.services.ports import LOOPBACK, get_json, get_status
from operations.services.service import CONF, Daemon, Service, Setting


class Solr(Service):
    """One Solr node in SolrCloud mode; its embedded ZooKeeper listens on the port + 1000.

    A ``light`` one starts sooner, without Java's second compiler and collector, and is slower with many documents.
    """

    name = "solr"
    pom = CONF / "solr" / "pom.xml"
    settings = (
        Setting("SOLR_PORT", 8983, "Solr; its ZooKeeper uses this + 1000"),
        Setting("SOLR_HEAP", "1g", "memory of Solr's JVM, without its file caches"),
        Setting("SOLR_LIGHT", "no", "yes: a JVM that starts sooner, and is slower with many documents"),
    )

    def __init__(
        self,
        directory: Path | str,
        port: int = 8983,
        heap: str = "1g",
        host: str = LOOPBACK,
        light: bool = False,
    ) -> None:
        super().__init__(directory)
        self.url = f"http://{host}:{port}/solr"
        self._home = self.directory / "home"
        self._web = self.directory / "web"
        options = [
            f"-Xms{heap}",
            *(LIGHT_JVM_OPTIONS if light else ["-XX:+UseG1GC"]),
            f"-Dsolr.solr.home={self._home}",
            f"-Dsolr.log.dir={self.logs}",
            f"-Djetty.host={host}",
            f"-Djetty.port={port}",
            f"-Dtinytags.web={self._web}",
            f"-Dlog4j.configurationFile={(CONF / 'solr' / 'log4j2.xml').as_uri()}",
            "-DzkRun",
            f"-Dsolr.zk.embedded.host={host}",
            "-DzkClientTimeout=10000",
            "-Dzookeeper.admin.enableServer=false",
            "-Ddisable.configEdit=true",
        ]
        main = ["org.eclipse.jetty.xml.XmlConfiguration", str(CONF / "solr" / "jetty.xml")]
        ports = [port, port + 1000]
        self.daemons = [
            Daemon(
                "solr",
                main,
                ports,
                self._home,
                self.logs,
                heap,
                self._is_ready,
                options,
                host,
                stuck=self._is_stuck,
            )
        ]

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        light = values["SOLR_LIGHT"] == "yes"
        return cls(directory, values["SOLR_PORT"], values["SOLR_HEAP"], values["SERVICES_HOST"], light)

    def prepare(self, java: str, jars: Path) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        self._web.mkdir(exist_ok=True)  # an empty folder for Jetty to serve
        for name in ("solr.xml", "zoo.cfg"):
            shutil.copyfile(CONF / "solr" / name, self._home / name)

    def _is_stuck(self) -> bool:
        # Where Solr itself fails to start (a ZooKeeper that can't read its data), Jetty goes on and answers for it with errors.
        return get_status(f"{self.url}/admin/info/system") not in (None, 200)

    def _is_ready(self) -> bool:
        # Solr answers before its collections do, and after kill -9 lists them as active before it has opened them.
        cores = get_json(f"{self.url}/admin/cores?action=STATUS&indexInfo=false")
        cluster = cores and get_json(f"{self.url}/admin/collections?action=CLUSTERSTATUS")
        if not cluster or not cluster["cluster"]["live_nodes"]:
            return False
        replicas = [
            replica
            for collection in cluster["cluster"]["collections"].values()
            for shard in collection["shards"].values()
            for replica in shard["replicas"].values()
        ]
        # A collection that cannot be opened must not make the others unavailable, nor one that was only half created when
        # Solr was killed: it has a replica without a folder, which nothing opens.
        waiting = [
            replica
            for replica in replicas
            if replica["core"] not in cores["initFailures"]
            and (self._home / replica["core"] / "core.properties").exists()
        ]
        return all(
            replica["state"] == "active" and cores["status"].get(replica["core"]) for replica in waiting
        )
