"""Installs the Debian packages that the integration tests need if run as root; else prints their names and fails."""

import os
import shutil
import subprocess
import sys

from testbed.lab import DEBIAN_PACKAGES, missing_packages


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
    for step in (["apt-get", "update", "--quiet=2"], command):
        done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
