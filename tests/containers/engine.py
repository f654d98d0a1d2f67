"""A Docker engine for tests: the one that runs already, or one of the test's own with a base image made by debootstrap."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("docker.io", "docker-compose", "debootstrap", "iptables")
PROGRAMS = ("dockerd", "docker-compose", "debootstrap", "iptables")
BASE = "debian:bookworm-slim"
START_SECONDS = 60
# The certificates of this machine, where it reaches registries through a proxy with one of its own.
CERTIFICATES = {"ca.crt": "/etc/ssl/certs/ca-certificates.crt", "cacerts": "/etc/ssl/certs/java/cacerts"}
WITH_CERTIFICATES = f"""FROM {BASE}
COPY . /opt/certificates/
ENV PIP_CERT=/opt/certificates/ca.crt SSL_CERT_FILE=/opt/certificates/ca.crt \\
    MAVEN_OPTS=-Djavax.net.ssl.trustStore=/opt/certificates/cacerts
"""


class Engine:
    """The commands `docker` and `docker-compose`, with the engine that they talk to."""

    def __init__(self, socket: str | None = None) -> None:
        self.environment = {**os.environ} | ({"DOCKER_HOST": socket} if socket else {})

    def docker(self, *arguments: str, **options) -> str:
        """Run `docker`; return what it prints."""
        return self.run([_program("docker"), *arguments], **options)

    def compose(self, *arguments: str, **options) -> str:
        """Run `docker-compose` (1.29), or `docker compose`."""
        old = shutil.which("docker-compose")
        return self.run([*([old] if old else [_program("docker"), "compose"]), *arguments], **options)

    def run(self, command: list[str], environment: dict[str, str] | None = None, **options) -> str:
        done = subprocess.run(
            command, env=self.environment | (environment or {}), capture_output=True,
            text=True, **options,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {(done.stdout + done.stderr)[-4000:]}"
        return done.stdout

    def usable(self) -> bool:
        """Return whether the engine answers."""
        command = [_program("docker"), "info"]
        return subprocess.run(command, env=self.environment, capture_output=True, timeout=30).returncode == 0


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """Give the engine of this machine; where none runs, start one with its files in ``folder``, and end it. That needs root."""
    if shutil.which("docker") and Engine().usable():
        yield Engine()
        return
    if not all(map(shutil.which, PROGRAMS)):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    folder.mkdir(parents=True, exist_ok=True)
    socket, files = f"unix://{folder}/sock", [f"{folder}/{name}" for name in ("data", "exec", "pid")]
    command = ["dockerd", "--data-root", files[0], "--exec-root", files[1], "-p", files[2], "-H", socket]
    with open(folder / "dockerd.log", "wb") as log:
        # Builds use the network of the machine, and compose makes its own.
        daemon = subprocess.Popen([*command, "--bridge=none"], stdout=log, stderr=log)
    try:
        engine = Engine(socket)
        until = time.monotonic() + START_SECONDS
        while not engine.usable():
            reason = (folder / "dockerd.log").read_text()[-2000:]
            assert daemon.poll() is None and time.monotonic() < until, reason
            time.sleep(0.2)
        make_base(engine, folder)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(60)
        # It leaves the network of containers mounted, and then the folder can't be removed.
        subprocess.run(["umount", f"{folder}/exec/netns/default"], stderr=subprocess.DEVNULL, check=False)


def make_base(engine: Engine, folder: Path) -> None:
    """Make the base image, which can't be pulled everywhere: Debian by debootstrap, and the certificates of this machine."""
    if engine.docker("images", "-q", BASE):
        return
    root, certificates = folder / "root", folder / "certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", str(root)], check=True, stdout=subprocess.DEVNULL
    )
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as archive:
        engine.docker("import", "-", BASE, stdin=archive.stdout)
    shutil.rmtree(root)
    certificates.mkdir(exist_ok=True)
    for name, path in CERTIFICATES.items():
        shutil.copyfile(path, certificates / name)
    (certificates / "Dockerfile").write_text(WITH_CERTIFICATES)
    engine.docker("build", "-q", "-t", BASE, str(certificates))


def _program(name: str) -> str:
    # Debian's own first: another program of this name may be earlier on the PATH.
    return shutil.which(name, path=f"/usr/bin:{os.environ['PATH']}") or name
