"""A real nginx for tests of what stands behind one."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from small_world import wait_until

from operations.services.packaged import find_program


@contextlib.contextmanager
def running_nginx(folder: Path, servers: str, ready: Callable[[], object]) -> Iterator[None]:
    """Run nginx in ``folder`` with these server blocks while the block runs, once ``ready()`` is true."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
        pid {folder}/pid; daemon off; master_process off; error_log {folder}/error.log;
        events {{}}
        http {{ access_log off; {temporary} {servers} }}
    """)
    process = subprocess.Popen(
        [find_program("nginx", "nginx-light"), "-p", folder, "-c", folder / "nginx.conf"],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(ready, process)
        yield
    finally:
        process.terminate()
        process.wait(20)
