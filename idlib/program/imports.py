"""Keeps a program from importing what it does not need; not for a library, which does not own its process."""

import sys
from types import ModuleType
from typing import cast


def leave_out_dns_resolver() -> None:
    """Keep paho-mqtt from importing the resolver of dnspython, as if dnspython were not installed.

    It would look brokers up by SRV records with it, which no program does. It would take a twentieth of the time of
    `send`, and a megabyte. The programs ask DNS themselves, in `idlib.discovery`.
    """
    cast("dict[str, ModuleType | None]", sys.modules).setdefault("dns.resolver", None)
