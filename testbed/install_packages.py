"""Installs the Debian packages that the integration tests need if run as root; else prints their names and fails."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from testbed.lab import DEBIAN_PACKAGES, missing_packages

# Debian's invoke-rc.d and deb-systemd-invoke ask it if a service may start; 101 forbids it.
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


def main() -> int:
    """Return 0 if every package is installed."""
    missing = missing_packages(DEBIAN_PACKAGES)
    if not missing:
        return 0
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"The integration tests need Debian packages: sudo {' '.join(command)}", file=sys.stderr)
        return 1
    print(f"Installing {' '.join(missing)}", file=sys.stderr)
    # At run level 1 the packages do not start their services: the tests start them with their own configurations.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with _no_service_starts():
        for step in (["apt-get", "update", "--quiet=2"], command):
            done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
                return 1
    return 0


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid packages to start their services, as RabbitMQ's would under systemd, which has no run level 1."""
    if _POLICY.exists():
        # The system has a policy of its own; in containers it usually forbids the same.
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


if __name__ == "__main__":
    sys.exit(main())
