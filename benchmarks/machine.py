"""The machine that the benchmarks ran on: without it, the figures mean nothing."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Final

from testbed.daemons.process import run_tool

_LIBRARIES: Final = (
    "cryptography",
    "jwcrypto",
    "dnspython",
    "paho-mqtt",
    "dane-jwe-jws",
    "dane-discovery",
)
_RSA_SECONDS: Final = 2


def describe() -> str:
    """Return the processors and the versions of everything that took part, one a line."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    return (
        f"{os.cpu_count()} processors, {_processor()}; {platform.system()} {platform.release()}\n"
        f"{platform.python_implementation()} {platform.python_version()}; {libraries}"
    )


def rsa_speed() -> str:
    """Return OpenSSL's speed on one processor with the keys that messages use: its table, as printed.

    Raises:
        DaemonError: openssl is not installed, or failed.
    """
    report = run_tool("openssl", "speed", "-seconds", str(_RSA_SECONDS), "rsa2048")
    heading, figures = re.findall(r"^(?: +sign.*|rsa *2048 bits.*)$", report, re.MULTILINE)
    return f"{heading}\n{figures}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", information.read_text(), re.MULTILINE) if information.exists() else []
    return names[0] if names else platform.machine()
