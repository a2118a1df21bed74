"""Reads the settings from the environment."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from idlib.errors import ConfigurationError, MalformedListError
from idlib.settings.programs import CREDENTIALS
from idlib.settings.values import Settings
from idlib.settings.variable import UnfitValueError
from idlib.settings.variables import VARIABLES


def load(environment: Mapping[str, str], names: Collection[str] | None = None) -> Settings:
    """Return the settings in the environment.

    Args:
        environment: Usually `os.environ`. A setting of CREDENTIALS that it does not have is the path of the credential
            of that name, if systemd has passed one (systemd.exec(5), "Credentials").
        names: The variables that the program reads, such as SENDER_READS. All others have their defaults, except
            required ones, which are always read. None reads every variable.

    Raises:
        ConfigurationError: Variables are missing, empty or have bad values; the error names all of them.
    """
    if "CREDENTIALS_DIRECTORY" in environment:
        environment = {**_credentials(environment["CREDENTIALS_DIRECTORY"]), **environment}
    values: dict[str, Any] = {}
    problems = []
    for variable in VARIABLES:
        is_read = names is None or variable.name in names or variable.required
        text = environment.get(variable.name, variable.default) if is_read else variable.default
        if text is None and variable.required:
            problems.append(f"Missing essential configuration env var: {variable.name}")
        elif text == "":
            remedy = "give it a value" if variable.required else "unset it or give it a value"
            problems.append(f"Bad value of env var {variable.name}: it is set but empty; {remedy}")
        elif text is None:
            values[variable.name.lower()] = None
        else:
            try:
                values[variable.name.lower()] = variable.read(text)
            except MalformedListError as error:
                problems.append(f"Bad value of env var {variable.name}: {error}")
            except ValueError as error:
                fault = f" {error.fault}" if isinstance(error, UnfitValueError) else ""
                problems.append(f"Bad value of env var {variable.name}: {text!a}{fault}; set it to {variable.form}")
    if problems:
        raise ConfigurationError(*problems)
    return Settings(**values)


def _credentials(directory: str) -> dict[str, str]:
    """Return the settings that are credentials in a directory of systemd."""
    found = {}
    for group, names in CREDENTIALS.items():
        for name in names:
            for credential in (f"{group}_{name}", name):
                path = os.path.join(directory, credential)
                if os.path.lexists(path):
                    found[name] = path
    return found
