"""The services, as the environment configures them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conf.errors import TinyTagsError
from operations.services.cassandra import Cassandra
from operations.services.hdfs import Hdfs
from operations.services.mariadb import MariaDb
from operations.services.ports import LOOPBACK
from operations.services.postgresql import PostgreSql
from operations.services.service import Service, Setting
from operations.services.solr import Solr
from operations.services.yarn import Yarn

# One line a server, in the order in which they start.
SERVICES: tuple[type[Service], ...] = (
    Solr,
    Hdfs,
    Yarn,
    PostgreSql,
    MariaDb,
    Cassandra,
)
NAMES = tuple(service.name for service in SERVICES)
SETTINGS = (
    Setting("SERVICES_DIR", "data/services", "folder of the servers' data, logs and pid files"),
    Setting("SERVICES_HOST", LOOPBACK, "address the servers listen on; they ask for no password"),
    Setting("JARS_DIR", "", "folder of the jars; by default tinytags/jars in the user's cache"),
    *(setting for service in SERVICES for setting in service.settings),
)


def configured_services(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return each service by name, with `SETTINGS` from the environment; raises `TinyTagsError` for an invalid value."""
    values = {setting.name: _value(setting, environ) for setting in SETTINGS}
    if values["SERVICES_HOST"] == "0.0.0.0":
        raise TinyTagsError(
            "TINYTAGS_SERVICES_HOST is 0.0.0.0; clients could not connect to the address that the servers announce: "
            "give this machine's address"
        )
    services: dict[str, Any] = {}
    for service in SERVICES:
        services[service.name] = service.configured(
            Path(values["SERVICES_DIR"]) / service.name, values, services
        )
    return services


def _value(setting: Setting, environ: Mapping[str, str]) -> Any:
    value = environ.get(setting.variable) or setting.default
    if not isinstance(setting.default, int):
        return value
    # Ports leave room for those beside them.
    least, most = (1024, 64000) if setting.name.endswith("PORT") else (1, 1 << 30)
    if not str(value).isdecimal() or not least <= int(value) <= most:
        raise TinyTagsError(
            f"{setting.variable} is {value!r}; it has to be a whole number from {least} to {most}"
        )
    return int(value)
