"""Reads the settings from the environment, and sets up the log on stderr."""

import logging
import os
import sys
import time
from collections.abc import Collection

from idlib.output import harmless
from idlib.program.log_format import json_stderr, use_log_format
from idlib.settings import LogFormat, Settings, load


class _Formatter(logging.Formatter):
    """The time in UTC, the level and the text, always on one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def read_environment(names: Collection[str]) -> Settings:
    """Return the settings of the environment, and start logging to stderr at their LOG_LEVEL.

    Args:
        names: Names of the variables that the program reads, such as `idlib.settings.SENDER_READS`.

    Raises:
        ConfigurationError: Variables among them are missing or have bad values.
    """
    settings = load(os.environ, names)
    log_to_stderr(settings)
    return settings


def log_to_stderr(settings: Settings) -> None:
    """Start logging to stderr.

    Args:
        settings: LOG_LEVEL and LOG_FORMAT are used.
    """
    logging.basicConfig(level=settings.log_level.upper(), handlers=[_handler(settings.log_format)], force=True)
    # A library may warn about a stranger's certificate.
    logging.captureWarnings(capture=True)


def _handler(log_format: LogFormat) -> logging.Handler:
    if log_format is LogFormat.JSON:
        use_log_format()
    stderr = json_stderr()
    if stderr is not None and log_format is LogFormat.JSON:
        # Imported late: text needs none of it.
        from idlib.program.json_lines import json_handler

        return json_handler(stderr)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    return handler
