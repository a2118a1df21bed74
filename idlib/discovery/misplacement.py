"""Finds a record that was published where a web server's record would be."""

from typing import Final

from idlib.discovery import Discovery
from idlib.errors import DiscoveryError, MalformedNameError, NoRecordError, NoUsableRecordError
from idlib.names import IdentityName

# Where DNS providers put a TLSA record if their form asks for port and protocol (RFC 6698, section 3).
_PORT_AND_PROTOCOL: Final = "_443._tcp"


def explain_absence(error: NoRecordError, name: IdentityName, discovery: Discovery) -> NoRecordError:
    """Return the error, or one that names the record's place if it is at `_443._tcp.NAME`.

    Args:
        error: The error that the name has no record.
        name: The name without a record.
        discovery: Looks up the other name.
    """
    try:
        misplaced = IdentityName(f"{_PORT_AND_PROTOCOL}.{name}")
        discovery.find(misplaced)
    except NoUsableRecordError:
        # The other name has a record, even if it is unusable.
        pass
    except (MalformedNameError, DiscoveryError):
        return error
    return NoRecordError(error.fact, f"there is one at {misplaced}; move it to {name}", error.zone, error.kept_seconds)
