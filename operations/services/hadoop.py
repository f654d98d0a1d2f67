"""The base of HDFS and YARN: Hadoop's jars, options and configuration files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from conf.errors import TinyTagsError
from operations.services.java import LIGHT_JVM_OPTIONS
from operations.services.ports import get_json
from operations.services.service import CONF, Daemon, Service

HADOOP_OPTIONS = [
    *LIGHT_JVM_OPTIONS,
    f"-Dlog4j.configuration={(CONF / 'hadoop' / 'log4j.properties').as_uri()}",
]


class Hadoop(Service):
    """Servers of Hadoop; `conf_dir` is the HADOOP_CONF_DIR for them, Spark and other clients."""

    pom = CONF / "hadoop" / "pom.xml"

    def __init__(self, directory: Path | str, heap: str, host: str) -> None:
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
            # YARN's containers inherit these; without the second, Spark would announce another address of the machine.
            environment={"HADOOP_CONF_DIR": str(self.conf_dir), "SPARK_LOCAL_IP": self._host},
        )

    def status(self) -> dict[str, Any]:
        return {**super().status(), "conf_dir": str(self.conf_dir)}

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the properties of each configuration file."""
        raise NotImplementedError

    def prepare(self, java: str, jars: Path) -> None:
        # A DataNode does not start below a folder with a space in its name; a colon separates class paths.
        odd = re.search(r"[^A-Za-z0-9/._@+=,~-]", str(self.directory))
        if odd:
            raise TinyTagsError(
                f"{self.name}: Hadoop cannot use the folder {str(self.directory)!r} because of the {odd[0]!r};"
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


def get_bean(url: str, name: str) -> dict[str, Any] | None:
    """Return a Hadoop server's JMX bean of a name, or None when it does not answer (yet), or another server does."""
    answer = get_json(f"{url}/jmx?qry=Hadoop:service={name}")
    beans = answer.get("beans") if isinstance(answer, dict) else None
    return beans[0] if beans else None
