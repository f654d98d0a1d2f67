"""YARN: one ResourceManager and one NodeManager."""

import os
from pathlib import Path

from operations.services.hadoop import Hadoop
from operations.services.hdfs import Hdfs
from operations.services.ports import LOOPBACK, get_json


class Yarn(Hadoop):
    """One ResourceManager, on `port` and those - 2, - 1 and + 1 of it, and one NodeManager; files are in `hdfs`."""

    name = "yarn"
    profile = "yarn"

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
    ):
        super().__init__(directory, heap, host)
        self.url = f"http://{host}:{http_port}"
        self._hdfs, self._port, self._memory, self._cores = hdfs, port, memory, cores
        self.daemons = [
            self._daemon(
                "resourcemanager",
                ["org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"],
                [port, http_port, port - 2, port - 1, port + 1],
                self._resourcemanager_answers,
            ),
            self._daemon(
                "nodemanager",
                ["org.apache.hadoop.yarn.server.nodemanager.NodeManager"],
                [],
                self._nodemanager_answers,
            ),
        ]

    def configuration(self) -> dict[str, dict]:
        work = self.directory / "nodemanager"
        yarn = {
            "yarn.resourcemanager.hostname": self._host,
            "yarn.resourcemanager.address": f"{self._host}:{self._port}",
            "yarn.resourcemanager.scheduler.address": f"{self._host}:{self._port - 2}",
            "yarn.resourcemanager.resource-tracker.address": f"{self._host}:{self._port - 1}",
            "yarn.resourcemanager.admin.address": f"{self._host}:{self._port + 1}",
            "yarn.resourcemanager.webapp.address": self.url.removeprefix("http://"),
            # 0: whatever is free; the ResourceManager tells who wants to know.
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
            # Python workers share pages with each other and map files: counted so, they would be killed for nothing.
            "yarn.nodemanager.pmem-check-enabled": "false",
            "yarn.nodemanager.vmem-check-enabled": "false",
            # A disk that is 90 % full is no reason to refuse work on one's own machine.
            "yarn.nodemanager.disk-health-checker.enable": "false",
            "yarn.nodemanager.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,SPARK_LOCAL_IP,PATH,LANG,TZ",
            "yarn.nm.liveness-monitor.expiry-interval-ms": 15000,
        }
        scheduler = {
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": 100,
            # On so small a cluster the default, 0.1, leaves no room for a second job's master.
            "yarn.scheduler.capacity.maximum-am-resource-percent": 0.9,
        }
        return {**self._hdfs.configuration(), "yarn-site": yarn, "capacity-scheduler": scheduler}

    def _resourcemanager_answers(self) -> bool:
        info = get_json(f"{self.url}/ws/v1/cluster/info")
        return info is not None and info["clusterInfo"]["state"] == "STARTED"

    def _nodemanager_answers(self) -> bool:
        # A node is there a moment before what it has to give is counted.
        metrics = get_json(f"{self.url}/ws/v1/cluster/metrics")
        return metrics is not None and metrics["clusterMetrics"]["totalMB"] > 0
