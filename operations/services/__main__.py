"""The command that starts and stops the servers: ``python -m operations.services``."""

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from conf.command import INTERRUPTED, json_option, note, report, run
from conf.errors import TinyTagsError
from operations.services.class_archive import make_archive
from operations.services.java import fetch_jars, jars_folder
from operations.services.registry import NAMES, SERVICES, SETTINGS, configured_services
from operations.services.service import Service

HELP = "\b\nSettings, from the environment:\n" + "\n".join(
    f"  {setting.variable.ljust(28)} {setting.help}{f' [{setting.default}]' if setting.default else ''}"
    for setting in SETTINGS
)
names_argument: Callable[..., Any] = click.argument(
    "names",
    nargs=-1,
    type=click.Choice([*NAMES, "all"]),
    metavar=" ".join(f"[{name}]" for name in (*NAMES, "all")),
)


@click.group("services", epilog=HELP)
def main() -> None:
    """Start and stop servers on this machine: Solr, HDFS, YARN and databases.

    They are the real servers, from jars of Maven Central; PostgreSQL and MariaDB are the system's packages. Their data
    stays when they stop.
    """


@main.command()
@names_argument
def up(names: tuple[str, ...]) -> None:
    """Start services (solr by default) and wait until they are usable; yarn starts hdfs too."""
    needed = [need for service in SERVICES if service.name in names for need in service.needs]
    try:
        _start(_selected((*names, *needed), ("solr",)))
    except KeyboardInterrupt:
        note("services: interrupted; what this command started is stopped again")
        sys.exit(INTERRUPTED)


@main.command()
@names_argument
def down(names: tuple[str, ...]) -> None:
    """Stop services (all by default)."""
    _stop(_selected(names, NAMES))


@main.command()
@names_argument
def restart(names: tuple[str, ...]) -> None:
    """Stop services and start them again (all that run by default)."""
    services = _selected(names, NAMES)
    if not names:
        services = [service for service in services if service.status()["state"] != "stopped"]
    _stop(services)
    _start(services)


@main.command("run")
@click.argument("name", type=click.Choice(NAMES))
def run_in_foreground(name: str) -> None:
    """Start one service and stay until it ends, or Ctrl-C or SIGTERM stops it: for containers."""
    service: Service = configured_services()[name]
    try:
        _start([service])
        while service.pid:
            time.sleep(1)
    except KeyboardInterrupt:  # also right after it is up
        _stop([service])
        return
    raise TinyTagsError(f"{name} has ended; log: {service.daemons[0].output}")


@main.command()
@names_argument
@json_option
def status(names: tuple[str, ...], as_json: bool) -> None:
    """Show whether services (all by default) are stopped, running or usable."""
    states = {service.name: service.status() for service in _selected(names, NAMES)}
    report(states, "\n".join(line for state in states.values() for line in _status_lines(state)), as_json)


@main.command()
@names_argument
@click.option("--check", is_flag=True, help="Fetch nothing; exit code 1 where jars are missing.")
def jars(names: tuple[str, ...], check: bool) -> None:
    """Fetch the jars of services (solr, hdfs and yarn by default), and archive Solr's classes, so that `up` is quick."""
    needed = tuple(service.name for service in SERVICES if not service.optional)
    services = _selected(names, needed)
    if check:
        sys.exit(
            any(not jars_folder(service.pom, service.profile).is_dir() for service in services if service.pom)
        )
    for service in services:
        if service.pom:
            fetch_jars(service.pom, service.profile)
        if service.name == "solr":
            make_archive()


def _selected(names: tuple[str, ...], default: tuple[str, ...]) -> list[Service]:
    """Return the services by these names, in the order in which they start."""
    selected = NAMES if "all" in names else names or default
    return [service for name, service in configured_services().items() if name in selected]


def _start(services: list[Service]) -> None:
    """Start services in their order; Ctrl-C stops those again that were not up."""
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


def _stop(services: list[Service]) -> None:
    """Stop services, the last one first."""
    stopped = [service.name for service in reversed(services) if service.stop()]
    note(f"stopped: {', '.join(stopped) or 'nothing was running'}")


def _status_lines(service: dict[str, Any]) -> list[str]:
    """Return a service's status as lines for people, without the servers that do not run."""
    lines = [f"{service['name']}: {service['state']}, {service['url']}"]
    for name in ("webhdfs", "conf_dir"):
        if name in service and service["state"] != "stopped":
            lines.append(f"  {name} {service[name]}")
    for server in service["servers"]:
        if server["pid"]:
            ports = ", ".join(map(str, server["ports"])) or "any"
            state = f"{server['state']}, process {server['pid']}, ports {ports}"
            state += f", heap {server['heap']}" if server["heap"] else ""
            lines += [f"  {server['name']}: {state}", f"    data {server['data']}, log {server['log']}"]
    return lines


if __name__ == "__main__":
    run(main)
