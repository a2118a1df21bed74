"""A network namespace with its own resolv.conf, for libraries that only query port 53 of the first name server."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_SETUP = 'ip link set lo up && mount --bind "$1" /etc/resolv.conf && echo ready && exec sleep infinity'


class Namespace:
    """A network and a mount namespace, held open by a sleeping child; without root inside a user namespace too.

    Args:
        directory: The directory for its resolv.conf.
    """

    def __init__(self, directory: Path) -> None:
        self._resolv_conf = directory / "resolv.conf"
        self._holder: subprocess.Popen[str] | None = None
        self._as_user = os.geteuid() != 0

    def __enter__(self) -> Self:
        self._resolv_conf.write_text("nameserver 127.0.0.1\noptions trust-ad\n")
        user = ["--user", "--map-root-user"] if self._as_user else []
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *user, "--net", "--mount"]
        self._holder = subprocess.Popen(
            [*command, "sh", "-c", _SETUP, "sh", str(self._resolv_conf)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
        )
        assert self._holder.stdout is not None
        line = self._holder.stdout.readline()
        if line != "ready\n":
            self.__exit__(None, None, None)
            raise RuntimeError(f"no network namespace could be created (needs root or user namespaces): {line}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()
            self._holder = None

    @property
    def entrance(self) -> tuple[str, ...]:
        """Prefix of a command line that makes it run inside; paths in it must be absolute."""
        assert self._holder is not None, "the namespace is not open"
        user = ("--user", "--preserve-credentials") if self._as_user else ()
        return ("nsenter", "--target", str(self._holder.pid), *user, "--net", "--mount", "--")
