"""Remembers in DATA_PATH what was announced to Home Assistant, so that it can be removed later."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from idlib.errors import quoted
from idlib.files import read_regular, replace_durably
from idlib.system.failure_log import FailureLog

_LOG: Final = logging.getLogger(__name__)

_MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Announced:
    """What is retained at the local broker.

    Args:
        config_topic: Where the configuration is.
        state_topic: Where the state is.
        components: The platform of each entity, by the entity's key.
    """

    config_topic: str
    state_topic: str
    components: Mapping[str, str]


class AnnouncementNote:
    """The file that remembers it.

    Args:
        path: The file, in DATA_PATH.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outage = FailureLog(_LOG)

    def read(self) -> Announced | None:
        """Return what was announced; None if nothing was, or the file cannot be read."""
        try:
            return _announced(json.loads(read_regular(self._path, _MAX_BYTES)))
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror
        except (ValueError, RecursionError):
            reason = "it is damaged"
        _LOG.warning(
            "%s cannot be read, so an earlier device may stay in Home Assistant; delete it there: %s",
            quoted(self._path),
            reason,
        )
        return None

    def write(self, announced: Announced) -> None:
        """Remember what is announced; an error of the disk is logged.

        Args:
            announced: What is retained at the local broker.
        """
        members = {
            "config_topic": announced.config_topic,
            "state_topic": announced.state_topic,
            "components": dict(announced.components),
        }
        try:
            replace_durably(self._path, json.dumps(members).encode())
        except OSError as error:
            self._outage.begin(f"{quoted(self._path)} cannot be written: {error.strerror}")
        else:
            self._outage.end()

    def forget(self) -> None:
        """Forget what was announced."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._outage.begin(f"{quoted(self._path)} cannot be removed: {error.strerror}")


def _announced(value: object) -> Announced:
    match value:
        case {"config_topic": str(config), "state_topic": str(state), "components": dict(components)} if (
            config and state and all(isinstance(platform, str) for platform in components.values())
        ):
            return Announced(config, state, components)
    raise ValueError(value)
