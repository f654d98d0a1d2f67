"""A server process, and a service of one or more of them."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import conf
from conf.errors import TinyTagsError
from operations.services.java import JVM_OPTIONS, fetch_jars, java_command
from operations.services.ports import LOOPBACK, is_free, listener
from operations.services.process import locked, process_start, telling_line

CONF = Path(conf.__file__).parent
START_SECONDS = 180
STOP_SECONDS = 30


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
