"""YARN: one ResourceManager and one NodeManager."""

import os
from pathlib import Path
from typing import Any, Self

from operations.services.hadoop import Hadoop
from operations.services.hdfs import Hdfs
from operations.services.ports import LOOPBACK, get_json
from operations.services.service import Setting


class Yarn(Hadoop):
    """One ResourceManager, on `port` and those - 2, - 1 and + 1 of it, and one NodeManager; files are in `hdfs`."""

    name = "yarn"
    profile = "yarn"
    needs = ("hdfs",)
    settings = (
        Setting("YARN_PORT", 8032, "ResourceManager, which also uses this - 2, - 1 and + 1"),
        Setting("YARN_HTTP_PORT", 8088, "the ResourceManager's web page and REST"),
        Setting("YARN_MEMORY", 4096, "MB for all containers together"),
        Setting("YARN_HEAP", "256m", "memory of each YARN server's JVM"),
    )

    def __init__(
        self,
        directory: Path | str,
        hdfs: Hdfs,
        port: int = 8032,
        http_port: int = 8088,
        memory: int = 4096,
        cores: int = os.cpu_count() or 1,
        heap: str = "256m",
        host: str = LOOPBACK,
    ) -> None:
        super().__init__(directory, heap, host)
        self.url = f"http://{host}:{http_port}"
        self._hdfs, self._port, self._memory, self._cores = hdfs, port, memory, cores
        self.daemons = [
            self._daemon(
                "resourcemanager",
                ["org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"],
                [port, http_port, port - 2, port - 1, port + 1],
                self._is_resourcemanager_ready,
            ),
            self._daemon(
                "nodemanager",
                ["org.apache.hadoop.yarn.server.nodemanager.NodeManager"],
                [],
                self._is_nodemanager_ready,
            ),
        ]

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        return cls(
            directory,
            services["hdfs"],
            values["YARN_PORT"],
            values["YARN_HTTP_PORT"],
            values["YARN_MEMORY"],
            heap=values["YARN_HEAP"],
            host=values["SERVICES_HOST"],
        )

    def configuration(self) -> dict[str, dict[str, Any]]:
        work = self.directory / "nodemanager"
        yarn = {
            "yarn.resourcemanager.hostname": self._host,
            "yarn.resourcemanager.address": f"{self._host}:{self._port}",
            "yarn.resourcemanager.scheduler.address": f"{self._host}:{self._port - 2}",
            "yarn.resourcemanager.resource-tracker.address": f"{self._host}:{self._port - 1}",
            "yarn.resourcemanager.admin.address": f"{self._host}:{self._port + 1}",
            "yarn.resourcemanager.webapp.address": self.url.removeprefix("http://"),
            # 0: any free port; clients get it from the ResourceManager.
            "yarn.nodemanager.hostname": self._host,
            "yarn.nodemanager.address": f"{self._host}:0",
            "yarn.nodemanager.localizer.address": f"{self._host}:0",
            "yarn.nodemanager.webapp.address": f"{self._host}:0",
            "yarn.nodemanager.local-dirs": work / "local",
            "yarn.nodemanager.log-dirs": work / "containers",
            "yarn.nodemanager.resource.memory-mb": self._memory,
            "yarn.nodemanager.resource.cpu-vcores": self._cores,
            "yarn.scheduler.minimum-allocation-mb": 128,
            "yarn.scheduler.maximum-allocation-mb": self._memory,
            # Python workers share pages and map files, which YARN counts for each of them: it would kill them wrongly.
            "yarn.nodemanager.pmem-check-enabled": "false",
            "yarn.nodemanager.vmem-check-enabled": "false",
            # By default YARN refuses work when a disk is 90 % full.
            "yarn.nodemanager.disk-health-checker.enable": "false",
            "yarn.nodemanager.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,SPARK_LOCAL_IP,PATH,LANG,TZ",
            "yarn.nm.liveness-monitor.expiry-interval-ms": 15000,
        }
        scheduler = {
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": 100,
            # The default, 0.1, is too little for a second application master on so small a cluster.
            "yarn.scheduler.capacity.maximum-am-resource-percent": 0.9,
        }
        return {**self._hdfs.configuration(), "yarn-site": yarn, "capacity-scheduler": scheduler}

    def _is_resourcemanager_ready(self) -> bool:
        info = get_json(f"{self.url}/ws/v1/cluster/info")
        return info is not None and info["clusterInfo"]["state"] == "STARTED"

    def _is_nodemanager_ready(self) -> bool:
        # A node is listed a moment before its memory is counted.
        metrics = get_json(f"{self.url}/ws/v1/cluster/metrics")
        return metrics is not None and metrics["clusterMetrics"]["totalMB"] > 0
