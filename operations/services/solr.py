"""Solr in SolrCloud mode."""

import shutil
from pathlib import Path

from operations.services.ports import LOOPBACK, get_json
from operations.services.service import CONF, Daemon, Service


class Solr(Service):
    """One Solr node in SolrCloud mode; its ZooKeeper is inside, on the port + 1000."""

    name = "solr"
    pom = CONF / "solr" / "pom.xml"

    def __init__(
        self,
        directory: Path | str,
        port: int = 8983,
        heap: str = "1g",
        host: str = LOOPBACK,
    ):
        super().__init__(directory)
        self.url = f"http://{host}:{port}/solr"
        self._home = self.directory / "home"
        self._web = self.directory / "web"
        options = [
            f"-Xms{heap}",
            "-XX:+UseG1GC",
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
        main = [
            "org.eclipse.jetty.xml.XmlConfiguration",
            str(CONF / "solr" / "jetty.xml"),
        ]
        self.daemons = [
            Daemon(
                "solr",
                main,
                [port, port + 1000],
                self._home,
                self.logs,
                heap,
                self._answers,
                options,
                host,
            )
        ]

    def prepare(self, java: str, jars: Path) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        self._web.mkdir(exist_ok=True)  # empty: a folder that Jetty may show
        for name in ("solr.xml", "zoo.cfg"):
            shutil.copyfile(CONF / "solr" / name, self._home / name)

    def _answers(self) -> bool:
        # Solr answers before its collections do, and after kill -9 calls them active before it has opened them.
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
        # A collection that cannot be opened must not keep the others from being served.
        waiting = [replica for replica in replicas if replica["core"] not in cores["initFailures"]]
        return all(
            replica["state"] == "active" and cores["status"].get(replica["core"]) for replica in waiting
        )
