"""Reads the settings from the environment."""

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from idlib.errors import ConfigurationError, MalformedListError
from idlib.settings.choices import Switch
from idlib.settings.mqtt_urls import MqttUrl
from idlib.settings.programs import CREDENTIALS
from idlib.settings.values import Settings
from idlib.settings.variable import SecretValueError, UnfitValueError, Variable
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
            except (MalformedListError, ValueError) as error:
                problems.append(f"Bad value of env var {variable.name}: {_fault(variable, text, error)}")
    if isinstance(url := values.get("mqtt_url"), MqttUrl):
        problems += _replaced_settings(environment, url, names)
        values.update(_settings_of_url(url))
    if problems:
        raise ConfigurationError(*problems)
    return Settings(**values)


def _fault(variable: Variable, text: str, error: Exception) -> str:
    """Return what is wrong with a value, and what to do."""
    match error:
        case MalformedListError():
            return str(error)
        case SecretValueError():
            return f"it {error.fault}; set it to {variable.form}"
        case UnfitValueError():
            return f"{text!a} {error.fault}; set it to {variable.form}"
    return f"{text!a}; set it to {variable.form}"


def _replaced_settings(environment: Mapping[str, str], url: MqttUrl, names: Collection[str] | None) -> Iterator[str]:
    """Yield a problem for each setting that MQTT_URL replaces although it is set."""
    for name in ("MQTT_HOST", "MQTT_PORT", "MQTT_TLS", "MQTT_USERNAME"):
        is_in_url = name != "MQTT_USERNAME" or url.user is not None
        if is_in_url and name in environment and (names is None or name in names):
            what = "MQTT_URL contains a user name" if name == "MQTT_USERNAME" else "MQTT_URL is set"
            yield f"{what}, and {name} is set: unset one of them"


def _settings_of_url(url: MqttUrl) -> dict[str, Any]:
    """Return the values of the settings that MQTT_URL replaces."""
    replaced: dict[str, Any] = {
        "mqtt_host": url.host,
        "mqtt_port": url.port,
        "mqtt_tls": Switch.ON if url.scheme.is_encrypted else Switch.OFF,
    }
    return replaced if url.user is None else {**replaced, "mqtt_username": url.user}


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
