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
from typing import Any, ClassVar, Self

import conf
from conf.errors import TinyTagsError
from conf.java import java_command
from operations.services.java import JVM_OPTIONS, archive_options, fetch_jars
from operations.services.ports import LOOPBACK, is_free, listener
from operations.services.process import failure_line, locked, process_start

CONF = Path(conf.__file__).parent
START_SECONDS = 180
STOP_SECONDS = 30
# A server that was stuck for so long while it started stays so.
STUCK_SECONDS = 5


@dataclass(frozen=True)
class Setting:
    """A setting of the services, an environment variable; a whole number where the default is one."""

    name: str
    default: str | int
    help: str

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return f"TINYTAGS_{self.name}"


@dataclass
class Daemon:
    """One server process. Its pid file, output and log are in `logs`, its other files in `data`."""

    name: str
    # The Java main class and its arguments, after all options of the JVM; without a JVM the whole command.
    main: list[str]
    ports: list[int]
    data: Path
    logs: Path
    heap: str  # "" without a JVM
    usable: Callable[[], bool]
    options: list[str] = field(default_factory=list)  # of the JVM
    host: str = LOOPBACK
    class_path: str = ""  # before the jars, with a colon after it
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None  # where not the user who starts it
    stop_signal: signal.Signals = signal.SIGTERM
    # Whether it answers with errors, as it does where what it runs could not start.
    stuck: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        """The file with the console output of the process."""
        return self.logs / f"{self.name}.out"

    @property
    def _pid_file(self) -> Path:
        return self.logs / f"{self.name}.pid"

    @property
    def pid(self) -> int | None:
        """The process's id while it runs, also where another command started it."""
        record = self._record()
        return record["pid"] if record else None

    def _record(self) -> dict[str, Any] | None:
        if self._child:
            self._child.poll()  # reaps a child that has ended
        try:
            record: dict[str, Any] = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        # Pids are reused: only the process that started at the recorded time is this server, and gets signals.
        return record if process_start(record["pid"]) == record["began"] else None

    def check_ports(self) -> None:
        """Raise `TinyTagsError` when another program has one of its ports, or it already runs on other ports."""
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
        """Start the process and return at once; ``java`` and ``jars`` are for one with a JVM."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.output.exists():
            self.output.replace(f"{self.output}.1")
        command, environment = self.main, {**os.environ}
        if self.heap:
            command = [java, f"-Xmx{self.heap}", *JVM_OPTIONS, *archive_options(java, jars), *self.options]
            command += ["-cp", f"{self.class_path}{jars}/*", *self.main]
            environment["JAVA_HOME"] = str(Path(java).resolve().parent.parent)
        with open(self.output, "wb") as output:
            self._child = subprocess.Popen(
                command,
                cwd=self.data,
                env=environment | self.environment,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C and the end of the terminal are for `up`, not for the server.
                start_new_session=True,
            )
        pid = self._child.pid
        self._pid_file.write_text(json.dumps({"pid": pid, "began": process_start(pid), "ports": self.ports}))

    def terminate(self) -> bool:
        """Send the signal to stop to the process; False when it does not run."""
        return self._signal(self.stop_signal)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """End the process: the signal to stop, then SIGKILL after a wait. False when it did not run."""
        ran = self.terminate()
        if ran and not self._wait_for_end(seconds):
            self.kill()
        self._pid_file.unlink(missing_ok=True)
        return ran

    def kill(self) -> None:
        """End the process by SIGKILL."""
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

    def status(self) -> dict[str, Any]:
        """Return name, state ("stopped", "running" or "usable"), pid, ports, folders and heap."""
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
    """Servers that start and stop together, with all their files in one folder."""

    name: ClassVar[str]
    # Where its jars are listed; None for a server of the system's packages.
    pom: ClassVar[Path | None]
    profile: ClassVar[str | None] = None
    # Whether only those who choose it need it.
    optional: ClassVar[bool] = False
    # Services that have to run before this one.
    needs: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[Setting, ...]] = ()
    url: str

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self.logs = self.directory / "logs"
        self.daemons: list[Daemon] = []

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        """Return the service with its settings' values; `services` are those before it in the registry."""
        raise NotImplementedError

    def prepare(self, java: str, jars: Path) -> None:
        """Write the files that the servers read when they start."""

    @property
    def pid(self) -> int | None:
        """The id of the first server's process while it lives."""
        return self.daemons[0].pid

    def usable(self) -> bool:
        """Return whether every server runs and works."""
        return all(daemon.pid and daemon.usable() for daemon in self.daemons)

    def start(self) -> bool:
        """Start the servers that do not run and return when all are usable; False when all were usable already.

        Raises `TinyTagsError` when Java, Maven or a port is missing or a server ends; then, and after Ctrl-C, the
        servers that it started are stopped again.
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
        java, jars = "", Path()
        if self.pom:
            java, jars = java_command(), fetch_jars(self.pom, self.profile)
        try:
            self.prepare(java, jars)
            for daemon in stopped:
                daemon.launch(java, jars)
            self._wait(daemons)
        except BaseException:
            # All get SIGTERM before the first wait, so that a second Ctrl-C leaves none behind.
            for daemon in stopped:
                daemon.terminate()
            for daemon in stopped:
                daemon.stop()
            raise

    def _wait(self, daemons: list[Daemon]) -> None:
        until = time.monotonic() + START_SECONDS
        stuck_since: dict[str, float] = {}
        while waiting := [daemon for daemon in daemons if not daemon.usable()]:
            now = time.monotonic()
            ended = [daemon for daemon in daemons if not daemon.pid]
            stuck_since = {
                daemon.name: stuck_since.get(daemon.name, now) for daemon in waiting if daemon.stuck()
            }
            stuck = [daemon for daemon in waiting if now - stuck_since.get(daemon.name, now) > STUCK_SECONDS]
            if ended:
                failed, what = ended[0], "ended while starting"
            elif stuck:
                failed, what = stuck[0], f"has answered with errors for {STUCK_SECONDS} s while starting"
            elif now > until:
                # Servers wait for those that start after them (a NameNode for DataNodes): the last one is the cause.
                failed, what = waiting[-1], f"is not usable after {START_SECONDS} s"
            else:
                time.sleep(0.1)
                continue
            reason = failure_line(failed.output.read_text(errors="replace"))
            raise TinyTagsError(f"{failed.name} {what}: {reason}; log: {failed.output}")

    def status(self) -> dict[str, Any]:
        """Return name, state ("stopped", "running" or "usable"), URL, and the status of each server."""
        servers = [daemon.status() for daemon in self.daemons]
        states = {server["state"] for server in servers}
        state = states.pop() if len(states) == 1 else "running"
        return {"name": self.name, "state": state, "url": self.url, "servers": servers}

    def stop(self) -> bool:
        """Stop every server, the last one first; False when none ran. Their data stays."""
        if not self.directory.exists():
            return False
        with locked(self.directory / "lock"):
            stopped = [daemon.stop() for daemon in reversed(self.daemons)]
        return any(stopped)

    def terminate(self) -> None:
        """Send the signal to stop to every server, without waiting."""
        for daemon in self.daemons:
            daemon.terminate()

    def kill(self) -> None:
        """End every server by SIGKILL."""
        for daemon in self.daemons:
            daemon.kill()
