"""Solr, HDFS and YARN on this machine: real servers, made of jars from Maven Central, started and stopped."""

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import urllib3

import conf
from conf.errors import TinyTagsError

CONF = Path(conf.__file__).parent
LOOPBACK = "127.0.0.1"
JAVA_AT_LEAST = 17
INSTALL_JAVA = "sudo apt-get install --no-install-recommends default-jre-headless"
INSTALL_MAVEN = "sudo apt-get install --no-install-recommends maven"
START_SECONDS = 180
STOP_SECONDS = 30


# Java, and the jars


def java_command(environ=os.environ) -> str:
    """The path of `java`: JAVA_HOME's, else the one on the PATH. Raises when there is none, or one older than 17."""
    home = environ.get("JAVA_HOME")
    path = f"{home}/bin/java" if home else shutil.which("java", path=environ.get("PATH", ""))
    if not path or not os.access(path, os.X_OK):
        where = f"JAVA_HOME {home!r} has no bin/java" if home else "no java on the PATH"
        raise TinyTagsError(f"{where}: the servers need Java {JAVA_AT_LEAST} or newer; {INSTALL_JAVA}")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60)
    version = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if not version:
        raise TinyTagsError(f"{path} -version does not tell a version: {telling_line(said.stderr)!r}")
    if int(version[1]) < JAVA_AT_LEAST:
        raise TinyTagsError(
            f"{path} is Java {version[1]}: the servers need {JAVA_AT_LEAST} or newer; {INSTALL_JAVA}, or set JAVA_HOME"
        )
    return path


def jars_directory(environ=os.environ) -> Path:
    """Where jars are kept for every clone of the project: TINYTAGS_JARS_DIR, else in the user's cache."""
    if environ.get("TINYTAGS_JARS_DIR"):
        return Path(environ["TINYTAGS_JARS_DIR"]).absolute()
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "tinytags" / "jars"


def fetch_jars(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """The folder with the jars of a Maven project file and its profile; fetched once for each content of the file.

    A folder under its final name is complete: Maven copies into a temporary one, which is then renamed.
    """
    directory = directory or jars_directory()
    name = profile or pom.parent.name
    jars = directory / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        raise TinyTagsError(
            f"no mvn on the PATH, and the jars of {name} are not in {directory} yet; {INSTALL_MAVEN}"
        )
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "lock"):
        if jars.is_dir():
            return jars
        for leftover in directory.glob("fetching-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix="fetching-", dir=directory, ignore_cleanup_errors=True
        ) as temporary:
            command = [
                "mvn",
                "-q",
                "-B",
                "-ntp",
                "-f",
                str(pom),
                "dependency:copy-dependencies",
            ]
            command += ["-DincludeScope=runtime", f"-DoutputDirectory={temporary}/jars"]
            command += [f"-P{profile}"] if profile else []
            # Without the network first: 3 s when Maven has them all, and 2 s lost when it has not.
            if subprocess.run([*command, "-o"], check=False, capture_output=True).returncode:
                print(
                    f"fetching the jars of {name} from Maven Central (once, about a minute)",
                    file=sys.stderr,
                )
                maven = subprocess.run(command, check=False, capture_output=True, text=True)
                if maven.returncode:
                    errors = re.findall(r"^\[ERROR\] (.+)", maven.stdout + maven.stderr, re.MULTILINE)
                    why = (
                        errors[0].split(" -> [Help")[0]
                        if errors
                        else telling_line(maven.stdout + maven.stderr)
                    )
                    raise TinyTagsError(f"Maven could not fetch the jars of {name}: {why}")
            os.rename(f"{temporary}/jars", jars)
    return jars


# Ports, processes, files


def free_port(*beside: int) -> int:
    """A port of the loopback address on which nobody listens, and nor on those so far from it (`free_port(1000)`)."""
    # Below 32768, from where the kernel takes the near ends of connections.
    for port in random.sample(range(12000, 30000), 1000):
        if all(is_free(LOOPBACK, port + step) for step in (0, *beside)):
            return port
    raise TinyTagsError("no free port between 12000 and 30000")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def listener(port: int) -> str:
    """Who listens on a port, as words for a message; "another program" where the system does not tell."""
    with contextlib.suppress(OSError):
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        rows = [line.split() for line in tables.splitlines() if ":" in line.split()[0]]
        # Column 1 is the address in hexadecimal, 3 the state (0A: listening), 9 the socket's inode.
        rows = [row for row in rows if row[0] != "sl" and row[3] == "0A" and row[1].endswith(f":{port:04X}")]
        sockets = {f"socket:[{row[9]}]" for row in rows}
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                if os.readlink(link) in sockets:
                    pid = link.parts[2]
                    return f"process {pid} ({Path('/proc', pid, 'comm').read_text().strip()})"
    return "another program"


def process_start(pid: int) -> str | None:
    """When a living process began, as the system tells it: with the pid, what names a process. None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self").exists():
            return None
        told = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            check=False,
            capture_output=True,
            text=True,
        ).stdout
        state, _, began = told.strip().partition(" ")
    else:
        # proc_pid_stat(5): after the name in brackets, field 3 is the state, 20 the number of threads, 22 the start
        # in clock ticks. A first thread that is dead (Z) while others end still holds the ports.
        fields = stat.rpartition(")")[2].split()
        state, began = fields[0] if fields[17] in "01" else "S", fields[19]
    return None if state[:1] in ("", "Z", "X") else began.strip()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, waiting for whoever holds it; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def telling_line(log: str) -> str:
    """The line of a server's output that says why it ended."""
    lines = [
        line.strip()
        for line in log.splitlines()
        if line.strip() and not re.match(r"\s+(at |\.\.\. \d)", line)
    ]
    complaints = [line for line in lines if re.search(r"Exception|Error|ERROR|FATAL|Exiting with", line)]
    if not complaints or complaints[-1].startswith("Error occurred during initialization"):
        complaints = lines
    return complaints[-1] if complaints else "it said nothing"


def get_json(url: str) -> dict | None:
    """What a server answers there, or None when it does not, or not with 200 and JSON."""
    try:
        answer = urllib3.request("GET", url, timeout=5, retries=False)
        return answer.json() if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None


# A server, and a service of one or more


@dataclass
class Daemon:
    """One server process. Its pid file, output and log are in `logs`, the rest it keeps in `data`."""

    name: str
    main: list[str]  # the Java main class and its arguments, after all options of the JVM
    ports: list[int]
    data: Path
    logs: Path
    heap: str
    usable: Callable[[], bool]
    options: list[str]  # of the JVM
    host: str = LOOPBACK

    def __post_init__(self):
        self._child: subprocess.Popen | None = None

    @property
    def output(self) -> Path:
        """The file with what the process says on its console."""
        return self.logs / f"{self.name}.out"

    @property
    def _pid_file(self) -> Path:
        return self.logs / f"{self.name}.pid"

    @property
    def pid(self) -> int | None:
        """The process's id while it lives, whoever started it."""
        if self._child:
            self._child.poll()  # lets the system forget a child that has ended
        try:
            pid, began = self._pid_file.read_text().split(maxsplit=1)
        except (OSError, ValueError):
            return None
        return int(pid) if process_start(int(pid)) == began.strip() else None

    def launch(self, java: str, jars: Path, before: str = "") -> None:
        """Starts the process and returns at once. Raises when one of its ports is taken."""
        for port in self.ports:
            if not is_free(self.host, port):
                raise TinyTagsError(
                    f"{self.name}: port {port} is taken by {listener(port)}; stop it, or choose another port"
                )
        self.data.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.output.exists():
            self.output.replace(f"{self.output}.1")
        command = [java, f"-Xmx{self.heap}", *JVM_OPTIONS, *self.options]
        command += ["-cp", f"{before}{jars}/*", *self.main]
        with open(self.output, "wb") as output:
            # A session of its own: Ctrl-C and the end of the terminal are for `up`, not for the server.
            self._child = subprocess.Popen(
                command,
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._pid_file.write_text(f"{self._child.pid} {process_start(self._child.pid)}\n")

    def stop(self) -> bool:
        """Ends the process: asks, waits, and then ends it by force. False when it did not run."""
        pid = self.pid
        if not pid:
            self._pid_file.unlink(missing_ok=True)
            return False
        os.kill(pid, signal.SIGTERM)
        if not self._wait_for_end(STOP_SECONDS):
            self.kill()
        self._pid_file.unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """Ends the process by force (SIGKILL)."""
        pid = self.pid
        if pid:
            os.kill(pid, signal.SIGKILL)
            self._wait_for_end(STOP_SECONDS)

    def _wait_for_end(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.pid:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def status(self) -> dict:
        """Name, state ("stopped", "running" or "usable"), pid, ports, folders and heap."""
        pid = self.pid
        state = "stopped" if not pid else "usable" if self.usable() else "running"
        return {
            "name": self.name,
            "state": state,
            "pid": pid,
            "ports": self.ports,
            "data": str(self.data),
            "log": str(self.output),
            "heap": self.heap,
        }


JVM_OPTIONS = [
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Duser.timezone=UTC",
    "-XX:+ExitOnOutOfMemoryError",
]


class Service:
    """Servers that are started and stopped together, with everything they keep under one folder."""

    name: str
    pom: Path
    profile: str | None = None

    def __init__(self, directory: Path | str):
        self.directory = Path(directory).absolute()
        self.logs = self.directory / "logs"
        self.daemons: list[Daemon] = []
        # Beginning of the class path, before the jars.
        self.class_path = ""

    def prepare(self, java: str, jars: Path) -> None:
        """Writes what the servers read when they start."""

    @property
    def pid(self) -> int | None:
        """The id of the first server's process while it lives."""
        return self.daemons[0].pid

    def usable(self) -> bool:
        """Whether every server runs and does its work."""
        return all(daemon.pid and daemon.usable() for daemon in self.daemons)

    def start(self) -> bool:
        """Starts what does not run yet and returns when all is usable; False when all was usable already.

        Raises TinyTagsError when Java, Maven or a port is missing or a server ends; then, as after Ctrl-C, what it
        started is stopped again.
        """
        with locked(self.directory / "lock"):
            if self.usable():
                return False
            self._start(self.daemons)
        return True

    def _start(self, daemons: list[Daemon]) -> None:
        java = java_command()
        jars = fetch_jars(self.pom, self.profile)
        launched = []
        try:
            self.prepare(java, jars)
            for daemon in daemons:
                if not daemon.pid:
                    launched.append(daemon)
                    daemon.launch(java, jars, self.class_path)
            self._wait(daemons)
        except BaseException:
            for daemon in reversed(launched):
                daemon.stop()
            raise

    def _wait(self, daemons: list[Daemon]) -> None:
        until = time.monotonic() + START_SECONDS
        while waiting := [daemon for daemon in daemons if not daemon.usable()]:
            ended = [daemon for daemon in daemons if not daemon.pid]
            if ended or time.monotonic() > until:
                # Servers wait for those that are started after them (a NameNode for DataNodes): the last one is to blame.
                blamed = ended[0] if ended else waiting[-1]
                what = "ended while starting" if ended else f"is not usable after {START_SECONDS} s"
                why = telling_line(blamed.output.read_text(errors="replace"))
                raise TinyTagsError(f"{blamed.name} {what}: {why}; log: {blamed.output}")
            time.sleep(0.1)

    def stop(self) -> bool:
        """Stops every server, the last one first; False when none ran. What they keep stays."""
        if not self.directory.exists():
            return False
        with locked(self.directory / "lock"):
            stopped = [daemon.stop() for daemon in reversed(self.daemons)]
        return any(stopped)

    def kill(self) -> None:
        """Ends every server by force (SIGKILL)."""
        for daemon in self.daemons:
            daemon.kill()


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


HADOOP_OPTIONS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class Hdfs(Service):
    """One NameNode and some DataNodes. The i-th DataNode listens on `datanode_port` + 10 i, and on that - 2 and + 1."""

    name = "hdfs"
    pom = CONF / "hadoop" / "pom.xml"

    def __init__(
        self,
        directory: Path | str,
        namenode_port: int = 8020,
        http_port: int = 9870,
        datanodes: int = 1,
        datanode_port: int = 9866,
        heap: str = "256m",
        host: str = LOOPBACK,
    ):
        super().__init__(directory)
        self.url = f"hdfs://{host}:{namenode_port}"
        self.webhdfs = f"http://{host}:{http_port}"
        # What Spark and other clients want as HADOOP_CONF_DIR.
        self.conf_dir = self.directory / "conf"
        self.class_path = f"{self.conf_dir}:"
        self._host, self._namenode_port, self._http_port = host, namenode_port, http_port
        self._datanodes = datanodes
        namenode = "org.apache.hadoop.hdfs.server.namenode.NameNode"
        self.daemons = [
            self._daemon("namenode", [namenode], [namenode_port, http_port], heap, self._namenode_answers)
        ]
        for i in range(datanodes):
            port = datanode_port + 10 * i
            name = f"datanode-{i}"
            main = ["org.apache.hadoop.hdfs.server.datanode.DataNode"]
            main += ["-D", f"dfs.datanode.data.dir={(self.directory / name / 'blocks').as_uri()}"]
            main += ["-D", f"dfs.datanode.http.address={host}:{port - 2}"]
            main += ["-D", f"dfs.datanode.address={host}:{port}"]
            main += ["-D", f"dfs.datanode.ipc.address={host}:{port + 1}"]
            answers = partial(self._datanode_answers, port - 2)
            self.daemons.append(self._daemon(name, main, [port, port - 2, port + 1], heap, answers))

    def _daemon(
        self, name: str, main: list[str], ports: list[int], heap: str, usable: Callable[[], bool]
    ) -> Daemon:
        options = [*HADOOP_OPTIONS, f"-Dtinytags.log={self.logs / name}.log"]
        return Daemon(name, main, ports, self.directory / name, self.logs, heap, usable, options, self._host)

    def prepare(self, java: str, jars: Path) -> None:
        refuse_odd_path("hdfs", self.directory)
        # The servers' web pages are not in the jars; without folders of these names they do not start.
        for name in ("webapps/hdfs", "webapps/datanode"):
            (self.conf_dir / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CONF / "hadoop" / "log4j.properties", self.conf_dir / "log4j.properties")
        write_hadoop_xml(
            self.conf_dir / "core-site.xml",
            {
                "fs.defaultFS": self.url,
                "hadoop.tmp.dir": self.directory / "tmp",
                # Who a client is that gives no name: the user whose files these are.
                "hadoop.http.staticuser.user": getpass.getuser(),
            },
        )
        names = self.directory / "namenode" / "names"
        write_hadoop_xml(
            self.conf_dir / "hdfs-site.xml",
            {
                "dfs.replication": min(3, self._datanodes),
                "dfs.namenode.rpc-address": f"{self._host}:{self._namenode_port}",
                "dfs.namenode.http-address": f"{self._host}:{self._http_port}",
                "dfs.namenode.rpc-bind-host": self._host,
                "dfs.namenode.http-bind-host": self._host,
                "dfs.namenode.name.dir": names.as_uri(),
                # Out of safe mode as soon as every DataNode has come.
                "dfs.namenode.safemode.min.datanodes": self._datanodes,
                "dfs.namenode.safemode.extension": 0,
                # A DataNode is given up 30 s after its last word, not 10 minutes: 2 x recheck + 10 x heartbeat.
                "dfs.heartbeat.interval": 1,
                "dfs.namenode.heartbeat.recheck-interval": 10000,
                "dfs.datanode.hostname": self._host,
                "dfs.namenode.datanode.registration.ip-hostname-check": "false",
                "dfs.namenode.fs-limits.min-block-size": 1024,
                # The default, 400, holds every second small write up by 0.4 s.
                "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": 10,
            },
        )
        if not (names / "current" / "VERSION").exists():
            main = ["org.apache.hadoop.hdfs.server.namenode.NameNode", "-format", "-force", "-nonInteractive"]
            log = self.logs / "format.log"
            self.logs.mkdir(parents=True, exist_ok=True)
            command = [java, "-Xmx256m", *JVM_OPTIONS, *HADOOP_OPTIONS, f"-Dtinytags.log={log}"]
            command += ["-cp", f"{self.class_path}{jars}/*", *main]
            said = subprocess.run(command, check=False, capture_output=True, text=True)
            if said.returncode:
                raise TinyTagsError(
                    f"namenode: formatting {names} failed: {telling_line(said.stderr)}; log: {log}"
                )

    def _namenode_answers(self) -> bool:
        info = get_bean(self.webhdfs, "NameNode,name=NameNodeInfo")
        return info is not None and info["Safemode"] == ""

    def _datanode_answers(self, http_port: int) -> bool:
        # Asked itself: for a while the NameNode takes a dead one for living.
        info = get_bean(f"http://{self._host}:{http_port}", "DataNode,name=DataNodeInfo")
        actors = json.loads(info.get("BPServiceActorInfo", "[]")) if info else []
        return any(actor["ActorState"] == "RUNNING" for actor in actors)

    def kill_datanode(self, i: int = 0) -> None:
        """Ends one DataNode by force (SIGKILL)."""
        self.daemons[1 + i].kill()

    def start_datanode(self, i: int = 0) -> None:
        """Starts one DataNode and waits until it is usable."""
        with locked(self.directory / "lock"):
            self._start([self.daemons[1 + i]])


def get_bean(url: str, name: str) -> dict | None:
    """What a Hadoop server says of itself under one name, or None when it does not answer (yet)."""
    answer = get_json(f"{url}/jmx?qry=Hadoop:service={name}")
    return answer["beans"][0] if answer and answer["beans"] else None


def refuse_odd_path(name: str, path: Path) -> None:
    """Raises where Hadoop would stumble over a path: a DataNode never comes up below a folder with a space in its name."""
    odd = re.search(r"[^A-Za-z0-9/._@+=,~-]", str(path))
    if odd:
        raise TinyTagsError(
            f"{name}: Hadoop cannot live in {str(path)!r} because of the {odd[0]!r}; choose another folder"
        )


def write_hadoop_xml(path: Path, properties: dict) -> None:
    """Writes one of Hadoop's configuration files."""
    lines = [
        f"  <property><name>{name}</name><value>{escape(str(value))}</value></property>"
        for name, value in properties.items()
    ]
    path.write_text("\n".join(['<?xml version="1.0"?>', "<configuration>", *lines, "</configuration>", ""]))
