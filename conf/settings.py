"""The settings: options win over ``TINYTAGS_*``, these over ``tinytags.toml``, this over the defaults.

Read by hand as long as all are strings: pydantic-settings would bring two packages for these thirty lines.
"""

import functools
import getpass
import os
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from conf.addresses import without_passwords
from conf.errors import TinyTagsError

LONGEST_RETENTION = 36_500  # days
SHORTEST_PASSWORD = 8
# To SQLAlchemy the ~ of a home folder is a folder of this name.
_SQLITE_HOME = re.compile(r"^(sqlite(?:\+\w+)?:///)(~[^/?]*)(?=/)")
DEFAULT_STORE, DATABASE_FILE = "data", "tinytags.db"


@dataclass(frozen=True, repr=False)
class Settings:
    """The addresses that TinyTags works with, and how the page is served; read once, then passed on as a value.

    They may have a password in them: `conf.addresses.without_passwords` is for printing them.
    """

    store: str = "data"
    webhdfs: str = ""
    solr: str = "http://127.0.0.1:8983/solr"
    alias: str = "tags"
    master: str = "local[*]"
    database: str = "sqlite:///data/tinytags.db"
    details: str = "no"
    retention_days: str = ""
    delete_history: str = "no"
    page_jobs: str = "no"
    correction_rate: str = "60/minute, 2000/day"
    classify_rate: str = "120/minute, 5000/day"
    vision: str = ""
    hosts: str = ""
    proxy: str = ""
    read_only: str = "no"
    password: str = ""
    user_header: str = ""

    def __repr__(self) -> str:
        values = vars(self) | {"password": "***" if self.password else ""}
        return without_passwords(
            f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"
        )


HELP = {
    "store": "Folder or hdfs://HOST:8020/PATH that holds corpora, models and runs.",
    "webhdfs": "WebHDFS address of an HDFS store; by default http://HOST:9870 of the store's host.",
    "solr": "Solr's address.",
    "alias": "Solr alias that the search page reads.",
    "master": "What runs the tasks: a Spark master (local[*], spark://HOST:7077, yarn), or processes of this machine without a JVM: processes, processes[4].",
    "database": "URL of the database of corrections and predictions: SQLAlchemy's, or cassandra://HOST/KEYSPACE; none turns both off.",
    "details": "Whether pages show folders and addresses of the machine, and who writes: yes or no. `tinytags status` always does.",
    "retention_days": "For how many days predictions are kept; by default for ever.",
    "delete_history": "Whether everyone who reaches the page may delete predictions: yes or no. A browser on its own machine always may.",
    "page_jobs": "Whether everyone who reaches the page may train on the labels and publish the result: yes or no. A browser on its own machine always may.",
    "correction_rate": "How many corrections one address may make or undo, as 60/minute, 2000/day; none is no limit.",
    "classify_rate": "How many pictures one address may have classified, as 120/minute, 5000/day; none is no limit.",
    "vision": "Address of Google Cloud Vision, for label detection, as https://eu-vision.googleapis.com; by default Google's own of any region.",
    "hosts": "More names that the page is requested by, as in A,B; .A stands for all names in A, * for any. Always: localhost, loopback addresses and --host.",
    "proxy": "Address of the reverse proxy in front of the page, whose X-Forwarded-For, -Proto, -Host and -Prefix are used.",
    "read_only": "Whether the page changes nothing for anyone: yes or no. Pictures are classified, but not recorded.",
    "password": "Password that people log in with before they change anything on the page; without it, everyone may.",
    "user_header": "Header in which the reverse proxy names the person who is logged in, as X-Forwarded-User; needs proxy.",
}


def load_settings(options: dict[str, str | None] | None = None, folder: str | Path = ".") -> Settings:
    """Return the settings from ``options`` (None where not given), the environment and ``folder``/tinytags.toml.

    Raises `TinyTagsError` for a file that isn't TOML, a setting that doesn't exist or a value of the wrong kind.
    """
    names = [field.name for field in fields(Settings)]
    values = _read_toml(Path(folder, "tinytags.toml"), names)
    values |= {
        name: os.environ[f"TINYTAGS_{name.upper()}"]
        for name in names
        if os.environ.get(f"TINYTAGS_{name.upper()}")
    }
    values |= {name: value for name, value in (options or {}).items() if value}
    if "store" in values:
        values["store"] = _plain(values["store"])
        if "database" not in values:
            values |= _database_beside(values["store"], folder)
    if "database" in values:
        values["database"] = _SQLITE_HOME.sub(
            lambda match: match[1] + os.path.expanduser(match[2]), values["database"]
        )
    settings = Settings(**values)
    for name, address in (
        ("solr", settings.solr),
        ("webhdfs", settings.webhdfs),
        ("vision", settings.vision),
    ):
        if address and not _is_http(address):
            raise TinyTagsError(f"setting {name} is {address!r}; write http://HOST:PORT")
    for name in ("details", "delete_history", "page_jobs", "read_only"):
        if (value := getattr(settings, name)) not in ("yes", "no"):
            raise TinyTagsError(f"setting {name} is {value!r}; write yes or no")
    if 0 < len(settings.password) < SHORTEST_PASSWORD:
        raise TinyTagsError(
            f"setting password has {len(settings.password)} characters; choose {SHORTEST_PASSWORD} or more"
        )
    _check_user_header(settings)
    if settings.retention_days and not (
        settings.retention_days.isdecimal() and 1 <= int(settings.retention_days) <= LONGEST_RETENTION
    ):
        raise TinyTagsError(
            f"setting retention_days is {settings.retention_days!r}; write a whole number from 1 to {LONGEST_RETENTION:,}"
        )
    return settings


@functools.cache
def user_name() -> str:
    """Return the name of the user who runs this, or the number where a container has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _plain(store: str) -> str:
    """Return a local store as a path: ``~`` is the home folder, and ``file:`` may stand before it."""
    path = re.sub(r"^file:(//)?(?=/)", "", store)
    return os.path.expanduser(path) if path.startswith("~") else path


def _database_beside(store: str, folder: str | Path) -> dict[str, str]:
    """Return the database in a local store, unless that can only be read, or the default one, of this folder, is in use."""
    path = os.path.join(store, DATABASE_FILE)
    # Not by pathlib, which raises for a name that is too long: the store reports it.
    in_use = not os.path.exists(path) and os.path.exists(os.path.join(folder, DEFAULT_STORE, DATABASE_FILE))
    if "://" in store or "?" in store or store == DEFAULT_STORE or in_use:
        return {}
    if os.path.exists(store) and not os.access(store, os.W_OK):
        return {}
    return {"database": f"sqlite:///{path}"}


def _check_user_header(settings: Settings) -> None:
    name = settings.user_header
    if name and not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise TinyTagsError(
            f"setting user_header is {name!r}; write the name of a header, as X-Forwarded-User"
        )
    if name and not settings.proxy:
        raise TinyTagsError(
            f"setting user_header is {name!r}, but proxy is not set: anyone could send this header; "
            "set proxy to the address of the reverse proxy"
        )


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or brackets that enclose no address
        return False


def _read_toml(path: Path, names: list[str]) -> dict[str, str]:
    try:
        if not path.is_file():
            return {}
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise TinyTagsError(f"{path}: {error}") from None
    for name, value in values.items():
        if name not in names:
            raise TinyTagsError(f"{path}: there is no setting {name!r}; there are {', '.join(names)}")
        if not isinstance(value, str):
            quoted = "no string" if name == "password" else repr(value)
            raise TinyTagsError(f"{path}: {name} is {quoted}; write a string in quotes")
    return values
