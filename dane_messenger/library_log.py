"""The loggers of the library in a program that uses it as such."""

import logging
from typing import Final

LOG: Final = logging.getLogger("dane_messenger")
# Those of the packages that this one is built on.
NAMES: Final = ("dane_messenger", "idlib", "messaging_sender")


def be_quiet_by_default() -> None:
    """Print nothing on stderr unless the program configures logging, as is usual for a library."""
    for name in NAMES:
        log = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in log.handlers):
            log.addHandler(logging.NullHandler())
