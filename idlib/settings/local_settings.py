"""Checks the settings of the local broker if there is none; apart from it, so that nothing of it is imported then."""

from idlib.errors import ConfigurationError
from idlib.settings.values import Settings
from idlib.settings.variables import VARIABLES


def check_unused(settings: Settings) -> None:
    """Check that no setting of the local broker is set without LOCAL_MQTT_URL, because it would be ignored.

    Args:
        settings: From the environment; LOCAL_MQTT_URL is not set.

    Raises:
        ConfigurationError: One is set.
    """
    values = {
        "LOCAL_MQTT_PASSWORD_FILE": settings.local_mqtt_password_file,
        "LOCAL_MQTT_CA_FILE": settings.local_mqtt_ca_file,
        "LOCAL_MQTT_PLAINTEXT_LOGIN": settings.local_mqtt_plaintext_login,
        "LOCAL_MQTT_PREFIX": settings.local_mqtt_prefix,
        "LOCAL_MQTT_ONLY": settings.local_mqtt_only,
        "HOME_ASSISTANT": settings.home_assistant,
        "HOME_ASSISTANT_PREFIX": settings.home_assistant_prefix,
    }
    defaults = {variable.name: variable.default for variable in VARIABLES}
    used = [name for name, value in values.items() if value != defaults[name]]
    if used:
        raise ConfigurationError(
            *(f"{name} is set, and LOCAL_MQTT_URL is not: set LOCAL_MQTT_URL, or unset {name}" for name in used)
        )
