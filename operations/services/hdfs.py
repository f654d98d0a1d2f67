"""HDFS: one NameNode and some DataNodes."""

import getpass
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Self

from conf.errors import TinyTagsError
from operations.services.hadoop import HADOOP_OPTIONS, Hadoop, get_bean
from operations.services.java import JVM_OPTIONS
from operations.services.ports import LOOPBACK
from operations.services.process import failure_line, locked
from operations.services.service import Setting

NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"


class Hdfs(Hadoop):
    """One NameNode and some DataNodes. The i-th DataNode listens on `datanode_port` + 10 i, and on that - 2 and + 1."""

    name = "hdfs"
    settings = (
        Setting("HDFS_PORT", 8020, "NameNode"),
        Setting("HDFS_HTTP_PORT", 9870, "WebHDFS"),
        Setting("HDFS_DATANODES", 1, "number of DataNodes"),
        Setting(
            "HDFS_DATANODE_PORT",
            9866,
            "first DataNode, which also uses this - 2 and + 1; the next one is 10 higher",
        ),
        Setting("HDFS_HEAP", "256m", "memory of each HDFS server's JVM"),
    )

    def __init__(
        self,
        directory: Path | str,
        namenode_port: int = 8020,
        http_port: int = 9870,
        datanodes: int = 1,
        datanode_port: int = 9866,
        heap: str = "256m",
        host: str = LOOPBACK,
    ) -> None:
        super().__init__(directory, heap, host)
        self.url = f"hdfs://{host}:{namenode_port}"
        self.webhdfs = f"http://{host}:{http_port}"
        self._namenode_port, self._http_port, self._datanodes = namenode_port, http_port, datanodes
        self._names = self.directory / "namenode" / "names"
        self.daemons = [
            self._daemon("namenode", [NAMENODE], [namenode_port, http_port], self._is_namenode_ready)
        ]
        for i in range(datanodes):
            port = datanode_port + 10 * i
            name = f"datanode-{i}"
            main = ["org.apache.hadoop.hdfs.server.datanode.DataNode"]
            main += ["-D", f"dfs.datanode.data.dir={(self.directory / name / 'blocks').as_uri()}"]
            main += ["-D", f"dfs.datanode.http.address={host}:{port - 2}"]
            main += ["-D", f"dfs.datanode.address={host}:{port}"]
            main += ["-D", f"dfs.datanode.ipc.address={host}:{port + 1}"]
            is_ready = partial(self._is_datanode_ready, port - 2)
            self.daemons.append(self._daemon(name, main, [port, port - 2, port + 1], is_ready))

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        return cls(
            directory,
            values["HDFS_PORT"],
            values["HDFS_HTTP_PORT"],
            values["HDFS_DATANODES"],
            values["HDFS_DATANODE_PORT"],
            values["HDFS_HEAP"],
            values["SERVICES_HOST"],
        )

    def status(self) -> dict[str, Any]:
        return {**super().status(), "webhdfs": self.webhdfs}

    def configuration(self) -> dict[str, dict[str, Any]]:
        core = {
            "fs.defaultFS": self.url,
            "hadoop.tmp.dir": self.directory / "tmp",
            # A client that gives no name acts as the user who owns these files.
            "hadoop.http.staticuser.user": getpass.getuser(),
        }
        hdfs = {
            "dfs.replication": min(3, self._datanodes),
            "dfs.namenode.rpc-address": f"{self._host}:{self._namenode_port}",
            "dfs.namenode.http-address": f"{self._host}:{self._http_port}",
            "dfs.namenode.rpc-bind-host": self._host,
            "dfs.namenode.http-bind-host": self._host,
            "dfs.namenode.name.dir": self._names.as_uri(),
            # Safe mode ends as soon as every DataNode has registered.
            "dfs.namenode.safemode.min.datanodes": self._datanodes,
            "dfs.namenode.safemode.extension": 0,
            # A DataNode is dead 30 s after its last heartbeat, not 10 minutes: 2 x recheck + 10 x heartbeat.
            "dfs.heartbeat.interval": 1,
            "dfs.namenode.heartbeat.recheck-interval": 10000,
            "dfs.datanode.hostname": self._host,
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.namenode.fs-limits.min-block-size": 1024,
            # The default, 400, delays every second small write by 0.4 s.
            "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": 10,
        }
        return {"core-site": core, "hdfs-site": hdfs}

    def prepare(self, java: str, jars: Path) -> None:
        super().prepare(java, jars)
        # The jars lack the servers' web pages; without folders of these names the servers do not start.
        for name in ("webapps/hdfs", "webapps/datanode"):
            (self.conf_dir / name).mkdir(parents=True, exist_ok=True)
        if not (self._names / "current" / "VERSION").exists():
            log = self.logs / "format.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [java, "-Xmx256m", *JVM_OPTIONS, *HADOOP_OPTIONS, f"-Dtinytags.log={log}"]
            command += ["-cp", f"{self.conf_dir}:{jars}/*", NAMENODE, "-format", "-force", "-nonInteractive"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                reason = failure_line(done.stderr)
                raise TinyTagsError(f"namenode: formatting {self._names} failed: {reason}; log: {log}")

    def _is_namenode_ready(self) -> bool:
        info = get_bean(self.webhdfs, "NameNode,name=NameNodeInfo")
        return info is not None and info["Safemode"] == ""

    def _is_datanode_ready(self, http_port: int) -> bool:
        # From the DataNode itself: the NameNode lists a dead one as live for a while.
        info = get_bean(f"http://{self._host}:{http_port}", "DataNode,name=DataNodeInfo")
        actors = json.loads(info.get("BPServiceActorInfo", "[]")) if info else []
        return any(actor["ActorState"] == "RUNNING" for actor in actors)

    def kill_datanode(self, i: int = 0) -> None:
        """End one DataNode by SIGKILL."""
        self.daemons[1 + i].kill()

    def start_datanode(self, i: int = 0) -> None:
        """Start one DataNode and wait until it is usable."""
        with locked(self.directory / "lock"):
            self._start([self.daemons[1 + i]])
