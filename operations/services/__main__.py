"""Starts and stops the servers: ``python -m operations.services``."""

import sys
import time

import click

from conf.command import INTERRUPTED, json_option, note, report, run
from operations.services.java import fetch_jars, jars_folder
from operations.services.registry import NAMES, SETTINGS, configured_services
from operations.services.service import Service


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


if __name__ == "__main__":
    run(main)
