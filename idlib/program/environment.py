"""What a program reads of its environment, and the log on stderr that it opens by that."""

import logging
import os
import sys
import time
from collections.abc import Collection

from idlib.output import harmless
from idlib.settings import Settings, load


class _Formatter(logging.Formatter):
    """A time in UTC, the level and the text, on one line whatever the text holds."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def read_environment(names: Collection[str]) -> Settings:
    """Return the settings of the environment, and log to stderr from now on what their LOG_LEVEL lets through.

    Args:
        names: Of the variables that the program reads, such as `idlib.settings.SENDER_READS`.

    Raises:
        ConfigurationError: Variables among them are missing or have bad values.
    """
    settings = load(os.environ, names)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # A stranger's certificate can make a library warn.
    logging.captureWarnings(capture=True)
    return settings
