"""Whether messages can be sent with the settings, before there is one to send."""

from idlib.discovery import Discovery
from idlib.errors import ConfigurationError
from idlib.settings import Settings
from idlib.transport import Broker


def judge(settings: Settings) -> None:
    """Accept settings that fit together, and name files that can be used.

    Args:
        settings: What the environment says.

    Raises:
        ConfigurationError: They do not; all problems are named.
    """
    problems: list[str] = []
    for make in (Broker.from_settings, Discovery.from_settings):
        try:
            make(settings)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
