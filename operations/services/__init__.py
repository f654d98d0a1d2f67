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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import click
import urllib3

import conf
from conf.command import INTERRUPTED, json_option, note, report
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


def jars_folder(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """The folder that has the jars of a Maven project file and its profile once they are fetched."""
    name = profile or pom.parent.name
    return (directory or jars_directory()) / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def fetch_jars(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """The folder with the jars of a Maven project file and its profile; fetched once for each content of the file.

    A folder under its final name is complete: Maven copies into a temporary one, which is then renamed.
    """
    jars = jars_folder(pom, profile, directory)
    directory, name = jars.parent, profile or pom.parent.name
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
            command = ["mvn", "-q", "-B", "-ntp", "-f", str(pom), "dependency:copy-dependencies"]
            command += ["-DincludeScope=runtime", f"-DoutputDirectory={temporary}/jars"]
            command += [f"-P{profile}"] if profile else []
            # Without the network first: 3 s when Maven has them all, and 2 s lost when it has not.
            if subprocess.run([*command, "-o"], capture_output=True).returncode:
                note(f"fetching the jars of {name} from Maven Central (once, about a minute)")
                maven = subprocess.run(command, capture_output=True, text=True)
                if maven.returncode:
                    # The first one; after it comes advice. No ^: Maven puts colour codes before it.
                    errors = re.findall(r"\[ERROR\] (.+)", maven.stdout + maven.stderr)
                    why = errors[0].split(" -> [Help")[0] if errors else telling_line(maven.stderr)
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
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        state, _, began = (
            subprocess.run(command, capture_output=True, text=True).stdout.strip().partition(" ")
        )
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
    class_path: str = ""  # what comes before the jars, with a colon after it
    environment: dict[str, str] = field(default_factory=dict)

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
        record = self._record()
        return record["pid"] if record else None

    def _record(self) -> dict | None:
        if self._child:
            self._child.poll()  # lets the system forget a child that has ended
        try:
            record = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        # Pids are used again: the one that began at that time is ours, and no other is ever signalled.
        return record if process_start(record["pid"]) == record["began"] else None

    def check_ports(self) -> None:
        """Raises when somebody else listens on one of its ports, or when it runs already on others."""
        record = self._record()
        if record and record["ports"] != self.ports:
            running, wanted = record["ports"][0], self.ports[0]
            raise TinyTagsError(
                f"{self.name}: process {record['pid']} runs on port {running}, not {wanted}; stop it first"
                " (scripts/services down)"
            )
        for port in self.ports if not record else []:
            if not is_free(self.host, port):
                raise TinyTagsError(
                    f"{self.name}: port {port} is taken by {listener(port)}; stop it, or set another port"
                    " (scripts/services --help)"
                )

    def launch(self, java: str, jars: Path) -> None:
        """Starts the process and returns at once."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.output.exists():
            self.output.replace(f"{self.output}.1")
        command = [java, f"-Xmx{self.heap}", *JVM_OPTIONS, *self.options]
        command += ["-cp", f"{self.class_path}{jars}/*", *self.main]
        with open(self.output, "wb") as output:
            self._child = subprocess.Popen(
                command,
                cwd=self.data,
                env={**os.environ, "JAVA_HOME": str(Path(java).resolve().parent.parent), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C and the end of the terminal are for `up`, not for the server.
                start_new_session=True,
            )
        pid = self._child.pid
        self._pid_file.write_text(json.dumps({"pid": pid, "began": process_start(pid), "ports": self.ports}))

    def terminate(self) -> bool:
        """Asks the process to end (SIGTERM); False when it does not run."""
        return self._signal(signal.SIGTERM)

    def stop(self) -> bool:
        """Ends the process: asks, waits, and then ends it by force. False when it did not run."""
        ran = self.terminate()
        if ran and not self._wait_for_end(STOP_SECONDS):
            self.kill()
        self._pid_file.unlink(missing_ok=True)
        return ran

    def kill(self) -> None:
        """Ends the process by force (SIGKILL)."""
        if self._signal(signal.SIGKILL):
            self._wait_for_end(STOP_SECONDS)

    def _signal(self, number: int) -> bool:
        pid = self.pid
        if not pid:
            return False
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.kill(pid, number)
        return True

    def _wait_for_end(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.pid:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def status(self) -> dict:
        """Name, state ("stopped", "running" or "usable"), pid, ports, folders and heap."""
        record = self._record()
        state = "stopped" if not record else "usable" if self.usable() else "running"
        return {
            "name": self.name,
            "state": state,
            "pid": record["pid"] if record else None,
            "ports": record["ports"] if record else self.ports,
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
    url: str
    pom: Path
    profile: str | None = None

    def __init__(self, directory: Path | str):
        self.directory = Path(directory).absolute()
        self.logs = self.directory / "logs"
        self.daemons: list[Daemon] = []

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
        try:
            with locked(self.directory / "lock"):
                if self.usable():
                    return False
                self._start(self.daemons)
        except OSError as error:
            raise TinyTagsError(f"{self.name}: {error.strerror}: {error.filename!r}") from error
        return True

    def _start(self, daemons: list[Daemon]) -> None:
        for daemon in daemons:
            daemon.check_ports()
        stopped = [daemon for daemon in daemons if not daemon.pid]
        java = java_command()
        jars = fetch_jars(self.pom, self.profile)
        try:
            self.prepare(java, jars)
            for daemon in stopped:
                daemon.launch(java, jars)
            self._wait(daemons)
        except BaseException:
            # All are asked before any is waited for, so that an impatient second Ctrl-C leaves none behind.
            for daemon in stopped:
                daemon.terminate()
            for daemon in stopped:
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

    def status(self) -> dict:
        """Where it is, its state ("stopped", "running" or "usable"), and the same of each server."""
        servers = [daemon.status() for daemon in self.daemons]
        states = {server["state"] for server in servers}
        state = states.pop() if len(states) == 1 else "running"
        return {"name": self.name, "state": state, "url": self.url, "servers": servers}

    def stop(self) -> bool:
        """Stops every server, the last one first; False when none ran. What they keep stays."""
        if not self.directory.exists():
            return False
        with locked(self.directory / "lock"):
            stopped = [daemon.stop() for daemon in reversed(self.daemons)]
        return any(stopped)

    def terminate(self) -> None:
        """Asks every server to end, and does not wait."""
        for daemon in self.daemons:
            daemon.terminate()

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


NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
HADOOP_OPTIONS = [
    # Half the memory and a quicker start; on small machines no slower at moving bytes either.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    f"-Dlog4j.configuration={(CONF / 'hadoop' / 'log4j.properties').as_uri()}",
]


class Hadoop(Service):
    """Servers of Hadoop; `conf_dir` is what they, Spark and other clients want as HADOOP_CONF_DIR."""

    pom = CONF / "hadoop" / "pom.xml"

    def __init__(self, directory: Path | str, heap: str, host: str):
        super().__init__(directory)
        self.conf_dir = self.directory / "conf"
        self._heap, self._host = heap, host

    def _daemon(self, name: str, main: list[str], ports: list[int], usable: Callable[[], bool]) -> Daemon:
        return Daemon(
            name,
            main,
            ports,
            self.directory / name,
            self.logs,
            self._heap,
            usable,
            options=[*HADOOP_OPTIONS, f"-Dtinytags.log={self.logs / name}.log"],
            host=self._host,
            class_path=f"{self.conf_dir}:",
            # What YARN starts inherits them: Spark would announce itself at another address of the machine.
            environment={"HADOOP_CONF_DIR": str(self.conf_dir), "SPARK_LOCAL_IP": self._host},
        )

    def status(self) -> dict:
        return {**super().status(), "conf_dir": str(self.conf_dir)}

    def configuration(self) -> dict[str, dict]:
        """The properties in each of the configuration files."""
        raise NotImplementedError

    def prepare(self, java: str, jars: Path) -> None:
        # A DataNode never comes up below a folder with a space in its name, a class path ends at a colon.
        odd = re.search(r"[^A-Za-z0-9/._@+=,~-]", str(self.directory))
        if odd:
            raise TinyTagsError(
                f"{self.name}: Hadoop cannot live in {str(self.directory)!r} because of the {odd[0]!r};"
                " choose another folder (TINYTAGS_SERVICES_DIR)"
            )
        self.conf_dir.mkdir(parents=True, exist_ok=True)
        for name, properties in self.configuration().items():
            lines = [
                f"  <property><name>{key}</name><value>{escape(str(value))}</value></property>"
                for key, value in properties.items()
            ]
            text = "\n".join(['<?xml version="1.0"?>', "<configuration>", *lines, "</configuration>", ""])
            (self.conf_dir / f"{name}.xml").write_text(text)


class Hdfs(Hadoop):
    """One NameNode and some DataNodes. The i-th DataNode listens on `datanode_port` + 10 i, and on that - 2 and + 1."""

    name = "hdfs"

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
        super().__init__(directory, heap, host)
        self.url = f"hdfs://{host}:{namenode_port}"
        self.webhdfs = f"http://{host}:{http_port}"
        self._namenode_port, self._http_port, self._datanodes = namenode_port, http_port, datanodes
        self._names = self.directory / "namenode" / "names"
        self.daemons = [
            self._daemon("namenode", [NAMENODE], [namenode_port, http_port], self._namenode_answers)
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
            self.daemons.append(self._daemon(name, main, [port, port - 2, port + 1], answers))

    def status(self) -> dict:
        return {**super().status(), "webhdfs": self.webhdfs}

    def configuration(self) -> dict[str, dict]:
        core = {
            "fs.defaultFS": self.url,
            "hadoop.tmp.dir": self.directory / "tmp",
            # Who a client is that gives no name: the user whose files these are.
            "hadoop.http.staticuser.user": getpass.getuser(),
        }
        hdfs = {
            "dfs.replication": min(3, self._datanodes),
            "dfs.namenode.rpc-address": f"{self._host}:{self._namenode_port}",
            "dfs.namenode.http-address": f"{self._host}:{self._http_port}",
            "dfs.namenode.rpc-bind-host": self._host,
            "dfs.namenode.http-bind-host": self._host,
            "dfs.namenode.name.dir": self._names.as_uri(),
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
        }
        return {"core-site": core, "hdfs-site": hdfs}

    def prepare(self, java: str, jars: Path) -> None:
        super().prepare(java, jars)
        # The servers' web pages are not in the jars; without folders of these names they do not start.
        for name in ("webapps/hdfs", "webapps/datanode"):
            (self.conf_dir / name).mkdir(parents=True, exist_ok=True)
        if not (self._names / "current" / "VERSION").exists():
            log = self.logs / "format.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [java, "-Xmx256m", *JVM_OPTIONS, *HADOOP_OPTIONS, f"-Dtinytags.log={log}"]
            command += ["-cp", f"{self.conf_dir}:{jars}/*", NAMENODE, "-format", "-force", "-nonInteractive"]
            said = subprocess.run(command, capture_output=True, text=True)
            if said.returncode:
                why = telling_line(said.stderr)
                raise TinyTagsError(f"namenode: formatting {self._names} failed: {why}; log: {log}")

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


# The command

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


def start_services(services: list[Service]) -> list[Service]:
    """Starts services in their order and returns those that were not up; Ctrl-C stops these again."""
    started = []
    try:
        for service in services:
            began = time.monotonic()
            if service.start():
                started.append(service)
                note(f"{service.name}: up after {time.monotonic() - began:.0f} s, {service.url}")
            else:
                note(f"{service.name}: up already, {service.url}")
    except KeyboardInterrupt:
        for service in started:
            service.terminate()
        for service in started:
            service.stop()
        raise
    return started


def stop_services(services: list[Service]) -> None:
    """Stops services, the last one first."""
    stopped = [service.name for service in reversed(services) if service.stop()]
    note(f"stopped: {', '.join(stopped) or 'nothing was running'}")


def environment_help() -> str:
    """The settings, as a part of the command's help."""
    lines = [
        f"  {name.ljust(28)} {means}{f' [{default}]' if default else ''}"
        for name, (default, means) in SETTINGS.items()
    ]
    return "\b\nFrom the environment:\n" + "\n".join(lines)


names_argument = click.argument(
    "names", nargs=-1, type=click.Choice([*NAMES, "all"]), metavar="[solr] [hdfs] [yarn] [all]"
)


def named(names: tuple[str, ...], otherwise: tuple[str, ...]) -> list[Service]:
    """The services that were named, in the order in which they are started."""
    wanted = NAMES if "all" in names else names or otherwise
    return [service for name, service in configured_services().items() if name in wanted]


@click.group("services", epilog=environment_help())
def main():
    """Start and stop Solr, HDFS and YARN on this machine.

    They are the real servers, made of jars from Maven Central. What they keep survives `down`.
    """


@main.command()
@names_argument
def up(names):
    """Start services (solr, where none is named) and wait until they are usable; yarn brings hdfs."""
    try:
        start_services(named((*names, "hdfs") if "yarn" in names else names, ("solr",)))
    except KeyboardInterrupt:
        note("services: interrupted; what this command started is stopped again")
        sys.exit(INTERRUPTED)


@main.command()
@names_argument
def down(names):
    """Stop services (all, where none is named)."""
    stop_services(named(names, NAMES))


@main.command()
@names_argument
def restart(names):
    """Stop services and start them again (those that run, where none is named)."""
    services = named(names, NAMES)
    if not names:
        services = [service for service in services if service.status()["state"] != "stopped"]
    stop_services(services)
    start_services(services)


@main.command()
@names_argument
@json_option
def status(names, as_json):
    """Tell of services (all, where none is named) whether they are stopped, running or usable."""
    told = {service.name: service.status() for service in named(names, NAMES)}
    report(told, "\n".join(line for service in told.values() for line in status_lines(service)), as_json)


@main.command()
@names_argument
@click.option("--check", is_flag=True, help="Fetch nothing; exit code 1 where jars are missing.")
def jars(names, check):
    """Fetch the jars of services (all, where none is named), so that `up` is quick."""
    services = named(names, NAMES)
    if check:
        sys.exit(any(not jars_folder(service.pom, service.profile).is_dir() for service in services))
    for service in services:
        fetch_jars(service.pom, service.profile)


def status_lines(service: dict) -> list[str]:
    """A service's status as lines for people; servers that do not run are left out."""
    lines = [f"{service['name']}: {service['state']}, {service['url']}"]
    for name in ("webhdfs", "conf_dir"):
        if name in service and service["state"] != "stopped":
            lines.append(f"  {name} {service[name]}")
    for server in service["servers"]:
        if server["pid"]:
            ports = ", ".join(map(str, server["ports"])) or "any"
            state = f"{server['state']}, process {server['pid']}, ports {ports}, heap {server['heap']}"
            lines += [f"  {server['name']}: {state}", f"    data {server['data']}, log {server['log']}"]
    return lines
