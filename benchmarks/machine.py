"""The machine that the benchmarks ran on: without it, the figures mean nothing."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Final

from testbed.daemons.process import DaemonError, run_tool

_LIBRARIES: Final = (
    "cryptography",
    "jwcrypto",
    "dnspython",
    "paho-mqtt",
    "dane-jwe-jws",
    "dane-discovery",
)
_RSA_SECONDS: Final = 1


def describe() -> str:
    """Return the processors and the versions of everything that took part, one a line."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    return (
        f"{os.cpu_count()} processors, {_processor()}; {platform.system()} {platform.release()}\n"
        f"{platform.python_implementation()} {platform.python_version()}; {libraries}"
    )


def rsa_operations() -> float:
    """Return how many private-key operations with 2048-bit RSA keys OpenSSL does in a second on one core.

    Raises:
        DaemonError: openssl is not installed, or failed.
    """
    report = run_tool("openssl", "speed", "-seconds", str(_RSA_SECONDS), "rsa2048")
    columns = re.search(r"^ +(sign.*)$", report, re.MULTILINE)
    figures = re.search(r"^rsa *2048 bits (.*)$", report, re.MULTILINE)
    if columns is None or figures is None:
        raise DaemonError("openssl speed printed no figure for rsa2048")
    return float(figures[1].split()[columns[1].split().index("sign/s")])


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", information.read_text(), re.MULTILINE) if information.exists() else []
    return names[0] if names else platform.machine()
