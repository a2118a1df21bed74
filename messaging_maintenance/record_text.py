"""Prints the device's TLSA records for people who enter them into DNS themselves."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from idlib.bootstrap import Bootstrap
from idlib.records import PUBLIC_KEY_INFO, TlsaRecord, key_of
from idlib.settings import (
    DNS_PORT,
    HTTPS_PORT,
    TLS_PORT,
    HttpsResolver,
    ResolverAddress,
    ServerAddress,
    Settings,
    TlsResolver,
)
from messaging_maintenance.record_formats import RecordFormat, render
from messaging_maintenance.rotation.records import WantedRecords, records_to_enter

# The resolver that README.md sets up.
_USUAL_RESOLVER: Final = ServerAddress("127.0.0.1")


def print_record(settings: Settings, form: RecordFormat = RecordFormat.TEXT, ttl: int | None = None) -> None:
    """Print every record that belongs in DNS at this stage on stdout, and what to do with them on stderr.

    Args:
        settings: From the environment; TLSA_SELECTOR and TLSA_TTL say which record.
        form: How they are printed on stdout.
        ttl: Another TTL, in seconds.

    Raises:
        KeyFileError: The key, the certificate or the state of the rotation is missing or unusable, or key and
            certificate do not match.
    """
    identity = Bootstrap.from_settings(settings)
    wanted = records_to_enter(identity, settings)
    if ttl is not None:
        wanted = dataclasses.replace(wanted, ttl=ttl)
    name = identity.identity_name
    print(render(form, name, wanted.ttl, wanted.records), end="")
    print(
        f"{_what_to_publish(wanted)} at {name} in a zone that is signed with DNSSEC. Look it up only after that,"
        " because a resolver may cache the missing record for an hour:"
        f" dig {_server_of_dig(settings.dns_resolver or _USUAL_RESOLVER, settings.dns_ca_file)} +dnssec {name} TLSA",
        file=sys.stderr,
    )
    if not all(map(_is_for_all_software, wanted.records)):
        print(
            "Devices with this software can use this record; dane-jwe-jws can only use RSA keys in 3 0 0 records.",
            file=sys.stderr,
        )


def _what_to_publish(wanted: WantedRecords) -> str:
    if len(wanted.records) == 1:
        return "Publish it"
    return "The key is being changed, so publish both records"


def _is_for_all_software(record: TlsaRecord) -> bool:
    key = key_of(record.to_rdata())
    return (
        record.selector != PUBLIC_KEY_INFO
        and key is not None
        and isinstance(load_der_public_key(key), rsa.RSAPublicKey)
    )


def _server_of_dig(server: ResolverAddress, authorities: Path | None) -> str:
    """Return dig's arguments for this server and the CAs of its certificate."""
    # Without an argument it is the system's CAs; without the option dig would accept any certificate.
    verified = "+tls-ca" if authorities is None else f"+tls-ca={shlex.quote(str(authorities))}"
    match server:
        case ServerAddress():
            return f"@{server.address}{_port_of_dig(server.port, DNS_PORT)}"
        case TlsResolver():
            name = "" if server.name is None else f" +tls-hostname={server.name}"
            return f"@{server.address}{_port_of_dig(server.port, TLS_PORT)} +tls {verified}{name}"
        case HttpsResolver():
            name = "" if server.address is None else f" +tls-hostname={server.host}"
            place = f"@{server.address or server.host}{_port_of_dig(server.port, HTTPS_PORT)}"
            return f"{place} +https={shlex.quote(server.path)} {verified}{name}"


def _port_of_dig(port: int, usual: int) -> str:
    return "" if port == usual else f" -p {port}"
