"""The environment of a `Sender` or `Receiver`: that of this process, and the settings that the program gives."""

import difflib
import os
from collections.abc import Mapping
from typing import Final, TypeAlias

from idlib.errors import ConfigurationError
from idlib.output import harmless
from idlib.settings import VARIABLES

SettingValue: TypeAlias = str | int | os.PathLike[str]

# MQTT_URL excludes them.
_REPLACED_BY_URL: Final = frozenset({"MQTT_HOST", "MQTT_PORT", "MQTT_TLS"})
_NAMES: Final = frozenset(variable.name for variable in VARIABLES)


def environment_with(given: Mapping[str, SettingValue] | None) -> dict[str, str]:
    """Return the environment of this process with other values of some variables.

    What the program gives replaces the broker of the environment, also if only one of the two is an MQTT_URL.

    Args:
        given: The values, under the names of environment variables such as MQTT_HOST; None if there are none.

    Raises:
        ConfigurationError: A name is not that of a setting, or an environment variable cannot have the value.
    """
    problems = []
    texts = {}
    for name, value in (given or {}).items():
        if name not in _NAMES:
            problems.append(f"{harmless(repr(name))} is not a setting; {_advice(name)}")
        elif (text := _text_of(value)) is None:
            problems.append(f"Bad value of {name}: {harmless(repr(value))}; give a string, an integer or a path")
        else:
            texts[name] = text
    if problems:
        raise ConfigurationError(*problems)
    kept = {name: text for name, text in os.environ.items() if name not in _replaced_by(texts)}
    return {**kept, **texts}


def _replaced_by(given: Mapping[str, str]) -> frozenset[str]:
    """Return the variables whose place is taken by settings that the program gives, and that exclude them."""
    if "MQTT_URL" in given:
        return _REPLACED_BY_URL
    return frozenset({"MQTT_URL"}) if "MQTT_HOST" in given else frozenset()


def _text_of(value: object) -> str | None:
    """Return a value as an environment variable has it, or None if none can have it."""
    if isinstance(value, bool) or not isinstance(value, str | int | os.PathLike):
        return None
    text = str(value) if isinstance(value, int) else os.fsdecode(value)
    try:
        return None if b"\0" in os.fsencode(text) else text
    except UnicodeEncodeError:
        return None


def _advice(name: object) -> str:
    similar = difflib.get_close_matches(str(name).upper(), _NAMES, 1)
    return f"did you mean {similar[0]}?" if similar else "docs/settings.md lists them"
