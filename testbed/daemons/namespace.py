"""A network namespace with its own resolv.conf, for libraries that only query port 53 of the first name server."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

_SETUP: Final = (
    'ip link set lo up && mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/hosts'
    " && echo ready && exec sleep infinity"
)
_NO_HOSTS: Final[Mapping[str, str]] = MappingProxyType({})


class Namespace:
    """A network and a mount namespace, held open by a sleeping child; without root inside a user namespace too.

    Args:
        directory: An existing directory for its resolv.conf and hosts file.
        nameserver: The address of its resolver.
        hosts: The address of each host name that its hosts file has besides localhost.
        inside: The namespace that creates it, which can then be connected to it; None for the one of the tests.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nameserver: str = "127.0.0.1",
        hosts: Mapping[str, str] = _NO_HOSTS,
        inside: "Namespace | None" = None,
    ) -> None:
        self._resolv_conf = directory / "resolv.conf"
        self._hosts_file = directory / "hosts"
        self._nameserver = nameserver
        self._hosts = hosts
        self._outer = inside
        self._holder: subprocess.Popen[str] | None = None
        self._as_user = os.geteuid() != 0

    def __enter__(self) -> Self:
        self._resolv_conf.write_text(f"nameserver {self._nameserver}\noptions trust-ad\n")
        lines = [f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **self._hosts}.items()]
        self._hosts_file.write_text("".join(lines))
        user = ["--user", "--map-root-user"] if self._as_user and self._outer is None else []
        outer = self._outer.entrance if self._outer is not None else ()
        command = [*outer, "setpriv", "--pdeathsig", "KILL", "unshare", *user, "--net", "--mount"]
        self._holder = subprocess.Popen(
            [*command, "sh", "-c", _SETUP, "sh", str(self._resolv_conf), str(self._hosts_file)],
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
    def process_id(self) -> int:
        """The number of the process that holds it open."""
        assert self._holder is not None, "the namespace is not open"
        return self._holder.pid

    @property
    def entrance(self) -> tuple[str, ...]:
        """Prefix of a command line that makes it run inside; paths in it must be absolute."""
        user = ("--user", "--preserve-credentials") if self._as_user else ()
        return ("nsenter", "--target", str(self.process_id), *user, "--net", "--mount", "--")
