"""Publishes the record that generate_tlsa.py printed for each device, by dynamic update (RFC 2136, RFC 8945)."""

import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from idlib.errors import ConfigurationError, IdlibError
from idlib.program.command_line import parser, run

_RETRY_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.2
_QUERY_SECONDS: Final = 5.0


def main() -> None:
    """Publish each record, and wait until the resolver finds it authenticated."""
    arguments = parser(
        "Publish the TLSA records of devices in a zone. Other records stay unchanged.",
        "python -m lab.publish example.test 192.0.2.53 192.0.2.54 /update-key/key.conf /records",
    )
    arguments.add_argument("zone", type=dns.name.from_text)
    arguments.add_argument("authority", help="IP address of the zone's name server")
    arguments.add_argument("resolver", help="IP address of a validating resolver that must find the records")
    arguments.add_argument("key", type=Path, help="file with the TSIG key, as Knot's keymgr -t writes it")
    arguments.add_argument("records", type=Path, help="directory with a file for each device, named after it")
    options = arguments.parse_args()
    records = [read_record(path) for path in sorted(options.records.iterdir())]
    update = build_update(options.zone, read_key(options.key), records)
    _retry("The zone's name server does not accept the records", partial(_send, update, options.authority))
    for record in records:
        _retry(f"The resolver does not find {record.name}", partial(_find, record, options.resolver))
        print(f"{record.name.to_text(omit_final_dot=True)} is published.", file=sys.stderr)


def read_key(path: Path) -> dns.tsig.Key:
    """Return the TSIG key from the first line of a file, written as `# ALGORITHM:NAME:SECRET`.

    Raises:
        ConfigurationError: There is none.
    """
    try:
        algorithm, name, secret = path.read_text().splitlines()[0].removeprefix("#").strip().split(":")
        return dns.tsig.Key(name, secret, algorithm)
    except (OSError, ValueError, IndexError, dns.exception.DNSException) as error:
        raise ConfigurationError(f"No TSIG key can be read from {path}") from error


def read_record(path: Path) -> dns.rrset.RRset:
    """Return the TLSA record in the last line that generate_tlsa.py printed into a file.

    Args:
        path: The file. It must be named after the device, because a device may publish only at its own name.

    Raises:
        ConfigurationError: There is no such record.
    """
    try:
        owner, ttl, rdclass, rdtype, rdata = path.read_text().splitlines()[-1].split(maxsplit=4)
        record = dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, rdata)
    except (OSError, ValueError, IndexError, dns.exception.DNSException) as error:
        raise ConfigurationError(f"{path} has no record") from error
    if record.rdtype != dns.rdatatype.TLSA or owner != f"{path.name}.":
        raise ConfigurationError(f"{path} has a record that is not a TLSA record of {path.name}")
    return record


def build_update(
    zone: dns.name.Name, key: dns.tsig.Key, records: Iterable[dns.rrset.RRset]
) -> dns.update.UpdateMessage:
    """Return the update that makes each record the only TLSA record of its name.

    Args:
        zone: The zone that contains all the names.
        key: Signs the update.
        records: One for each device.
    """
    update = dns.update.UpdateMessage(zone, keyring=key)
    for record in records:
        update.replace(record.name, record)
    return update


def _retry(complaint: str, attempt: Callable[[], None]) -> None:
    """Try repeatedly for up to a minute, because the servers start at the same time as this program."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return attempt()
        except (OSError, dns.exception.DNSException, _NotYet) as error:
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{complaint}: {error}") from error
        time.sleep(_PAUSE_SECONDS)


class _NotYet(IdlibError):
    """A server answered, but not yet with the expected result."""


def _send(update: dns.update.UpdateMessage, authority: str) -> None:
    answer = dns.query.tcp(update, authority, _QUERY_SECONDS)
    if answer.rcode() != dns.rcode.NOERROR:
        raise _NotYet(dns.rcode.to_text(answer.rcode()))


def _find(record: dns.rrset.RRset, resolver: str) -> None:
    query = dns.message.make_query(record.name, dns.rdatatype.TLSA, want_dnssec=True)
    answer = dns.query.tcp(query, resolver, _QUERY_SECONDS)
    found = answer.get_rrset(dns.message.ANSWER, record.name, dns.rdataclass.IN, dns.rdatatype.TLSA)
    if found is None or set(found) != set(record):
        raise _NotYet(f"no such record, {dns.rcode.to_text(answer.rcode())}")
    if not answer.flags & dns.flags.AD:
        raise _NotYet("the answer is not authenticated")


if __name__ == "__main__":
    run(main)
