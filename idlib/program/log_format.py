"""What is written on stderr: text, or with LOG_FORMAT=json one JSON object for each line.

It imports very little, because services import it that stay in memory as long as the device runs.
"""

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from idlib.program.json_lines import JsonStderr

_NO_MEMBERS: Final[Mapping[str, object]] = MappingProxyType({})


def use_log_format() -> None:
    """Write JSON on stderr from now on, if LOG_FORMAT asks for it."""
    if os.environ.get("LOG_FORMAT") == "json":
        # Imported late: text needs none of it.
        from idlib.program.json_lines import write_json

        write_json()


def json_stderr() -> "JsonStderr | None":
    """Return stderr if JSON is written there, else None."""
    return cast("JsonStderr", sys.stderr) if hasattr(sys.stderr, "write_object") else None


def write_line(line: str, level: str = "info", members: Mapping[str, object] = _NO_MEMBERS) -> None:
    """Write a line that is not part of the log.

    Args:
        line: The text; with LOG_FORMAT=json it becomes the member `message`.
        level: As in the log, with LOG_FORMAT=json.
        members: Further members, with LOG_FORMAT=json.
    """
    stderr = json_stderr()
    if stderr is None:
        print(line, file=sys.stderr)
    else:
        stderr.write_object(level, line, members)


def relay(lines: str) -> None:
    """Write what another of our programs has written on its stderr, with the same LOG_FORMAT.

    Args:
        lines: They end with a line break.
    """
    stderr = json_stderr()
    if stderr is None:
        sys.stderr.write(lines)
    else:
        stderr.relay(lines)
    sys.stderr.flush()
