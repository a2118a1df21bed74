"""Prints the device's TLSA record for people who enter it into DNS themselves."""

import sys
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from idlib.bootstrap import Bootstrap
from idlib.records import PUBLIC_KEY_INFO
from idlib.settings import DNS_PORT, ServerAddress, Settings
from messaging_maintenance.record_formats import RecordFormat, render

# The resolver that README.md sets up.
_USUAL_RESOLVER: Final = ServerAddress("127.0.0.1")


def print_record(settings: Settings, form: RecordFormat = RecordFormat.TEXT) -> None:
    """Print the record on stdout, and what to do with it on stderr.

    Args:
        settings: From the environment; TLSA_SELECTOR and TLSA_TTL say which record.
        form: How it is printed on stdout.

    Raises:
        KeyFileError: The key or certificate is missing or unusable, or they do not match.
    """
    identity = Bootstrap.from_settings(settings)
    name, record = identity.identity_name, identity.tlsa_record(settings.tlsa_selector)
    print(render(form, name, settings.tlsa_ttl, record), end="")
    print(
        f"Publish it at {name} in a zone that is signed with DNSSEC. Look it up only after that, because a resolver"
        " may cache the missing record for an hour:"
        f" dig {_server_of_dig(settings.dns_resolver or _USUAL_RESOLVER)} +dnssec {name} TLSA",
        file=sys.stderr,
    )
    if record.selector == PUBLIC_KEY_INFO or not isinstance(identity.get_private_key_obj(), rsa.RSAPrivateKey):
        print(
            "Devices with this software can use this record; dane-jwe-jws can only use RSA keys in 3 0 0 records.",
            file=sys.stderr,
        )


def _server_of_dig(server: ServerAddress) -> str:
    """Return dig's arguments for this server."""
    port = "" if server.port == DNS_PORT else f" -p {server.port}"
    return f"@{server.address}{port}"
